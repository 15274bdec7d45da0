"""Learn two moons in the plane, sample them, and draw samples, score field and likelihood.

python examples/two_moons.py
"""

import torch

import scorefield as sf
from scorefield import plot

STEPS = 3000

data = sf.data.two_moons()
transform = sf.data.Affine.fitted(data)
with sf.nn.seeded(0):
    net = sf.nn.MLP(data.event_shape, data.classes)
std = sf.data.transformed_std(data, transform)
denoiser = sf.Preconditioned(net, sf.VP(), sf.EDMPrecond(std))

state = sf.TrainState(denoiser, sf.Optimisation(lr=2e-3), seed=0)
batches = sf.Batches(data, transform, 256, seed=0)
objective = sf.objectives.LabelDropout(sf.objectives.DenoisingScoreMatching.edm(std), rate=0.1)
losses = [float(info.loss) for info in sf.train(state, batches, objective, steps=STEPS)]

model = sf.ScoreModel(state.averaged(), data.event_shape, transform, data.classes)
samples = model.sample(seeds=range(2000), steps=20)
held_out = sf.data.two_moons(n=500, seed=1)
print(f"held-out log-likelihood {float(model.log_prob(held_out.x).nats.mean()):.3f} nats")

points = plot.plane(-1.6, 1.6)
scores = model.score(points, torch.tensor(0.05))
plot.score_field(points, scores, samples).savefig("two_moons_score.png", dpi=110)
plot.loss_curve(range(1, STEPS + 1), losses).savefig("two_moons_loss.png", dpi=110)

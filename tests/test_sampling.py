import torch
from scorefield import *
def test_a():
    m=gaussian(VP(),torch.zeros(2),torch.eye(2))
    x=m.sde.simulate(torch.zeros(3,2),[0.,.1,.2],noise=Noise.per_sample(range(3)))
    r=log_prob(m,x[-1]); encode(m,x[-1])
    sample(m,(2,),grids.karras(m.sde,5),solvers.UniPC(),seeds=range(4))

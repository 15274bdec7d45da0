"""A classifier of noisy data that knows their process."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from scorefield._inputs import Time
from scorefield._shapes import factor
from scorefield.processes import GaussianSDE, as_point
from scorefield.score.preconditioned import EDMPrecond
from scorefield.score.protocols import in_its_precision


class NoisyClassifier(nn.Module):
    """log p(c | x_t) = log_softmax F(inp x_t, noise), for guidance  (Song et al. 2021, section 5 and appendix I).

    The input's scale and the noise level are those of `EDMPrecond`, so that the network sees unit variance at each
    level and nothing of the process. It is trained by `objectives.CrossEntropy`.

    Args:
        net: F(x, noise) -> logits (b, classes), such as `nn.MLPClassifier` or `nn.UNetClassifier`.
        sde: the process, that of the score to be guided.
        sigma_data: standard deviation of the data, > 0.
    """

    def __init__(self, net: nn.Module, sde: GaussianSDE, sigma_data: float) -> None:
        super().__init__()
        self.net, self.sde, self.sigma_data = net, sde, sigma_data
        self._precond = EDMPrecond(sigma_data)

    def log_prob(self, x: Float[Tensor, "b *event"], t: Time) -> Float[Tensor, "b classes"]:
        """log p(c | x_t = x) of each class, in x's dtype; `t` is () or (b,)."""
        x, t = as_point(self.sde, x, t)
        coefs = self._precond(self.sde, t)
        inp, noise, _ = in_its_precision(self.net, factor(coefs.inp, x) * x, coefs.noise, {})
        logits = self.net(inp, noise)
        return logits.to(x.dtype).log_softmax(1)

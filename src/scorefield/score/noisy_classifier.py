"""A classifier of noisy data that knows their process."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from scorefield._device import double, placed
from scorefield._shapes import factor
from scorefield.processes import GaussianSDE
from scorefield.score.preconditioned import EDMPrecond


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

    def log_prob(self, x: Float[Tensor, "b *event"], t: Tensor) -> Float[Tensor, "b classes"]:
        """log p(c | x_t = x) of each class, in x's dtype; `t` is () or (b,)."""
        coefs = self._precond(self.sde, double(t))
        logits = self.net(factor(coefs.inp, x) * x, placed(coefs.noise, x))
        return logits.to(x.dtype).log_softmax(1)

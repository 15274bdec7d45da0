"""Self-attention over the positions of a feature map."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from scorefield.nn.normalisation import EPS, groups


class _Attend(torch.autograd.Function):
    """softmax(q k^T / sqrt(c)) v by the fused kernel, differentiable twice.

    The fused kernels have no second derivative, which the divergence's gradient and sliced score matching need, so a
    backward pass that is itself recorded goes through torch's math backend instead.
    """

    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        leaves = [
            part.detach().requires_grad_(wanted) for part, wanted in zip(parts, ctx.needs_input_grad, strict=True)
        ]
        with torch.enable_grad():
            fused = scaled_dot_product_attention(leaves[0], leaves[1], leaves[2])
        ctx.save_for_backward(*parts)
        ctx.fused = fused, leaves
        return fused.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        recorded = torch.is_grad_enabled()  # under create_graph
        out, parts = ctx.fused
        if recorded:
            parts = ctx.saved_tensors
            with sdpa_kernel(SDPBackend.MATH):
                out = scaled_dot_product_attention(*parts)
        wanted = [part for part, needed in zip(parts, ctx.needs_input_grad, strict=True) if needed]
        found = iter(torch.autograd.grad(out, wanted, grads, retain_graph=True, create_graph=recorded))
        return tuple(next(found) if needed else None for needed in ctx.needs_input_grad)


def attend(
    q: Float[Tensor, "b h n c"], k: Float[Tensor, "b h n c"], v: Float[Tensor, "b h n c"]
) -> Float[Tensor, "b h n c"]:
    """softmax(q k^T / sqrt(c)) v for h heads over n positions."""
    differentiated = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if differentiated and not torch.compiler.is_compiling():  # compiled graphs have no second derivative at all
        out: Tensor = _Attend.apply(q, k, v)  # pyright: ignore[reportAssignmentType]
        return out
    return scaled_dot_product_attention(q, k, v)


class SelfAttention(nn.Module):
    """scale (x + W attend(norm(x))) over all positions of a feature map.

    Args:
        channels: of the feature map.
        head_channels: channels of a head; it must divide `channels`.
        number: of the norm's groups; by default `groups(channels)`.
        eps: added to the variance by the norm.
        scale: of the sum.
    """

    def __init__(
        self, channels: int, head_channels: int = 64, number: int | None = None, eps: float = EPS, scale: float = 1.0
    ) -> None:
        super().__init__()
        if channels % head_channels:
            raise ValueError(
                f"attention needs head_channels that divide its channels; got {head_channels} for {channels}"
            )
        self.heads, self.scale = channels // head_channels, scale
        self.norm = nn.GroupNorm(number or groups(channels), channels, eps)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        """The feature map with each position informed of the others."""
        b, c = x.shape[:2]
        positions = self.norm(x.contiguous()).flatten(2).mT
        q, k, v = self.qkv(positions).reshape(b, -1, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        if q.device.type == "cpu":  # where the kernel for bfloat16 is slow
            with torch.autocast("cpu", enabled=False):
                mixed = attend(q.float(), k.float(), v.float()) if q.dtype == torch.bfloat16 else attend(q, k, v)
        else:
            mixed = attend(q, k, v)
        mixed = mixed.transpose(1, 2).reshape(b, -1, c).to(positions.dtype)
        return (x + self.out(mixed).mT.reshape(x.shape)).mul_(self.scale)

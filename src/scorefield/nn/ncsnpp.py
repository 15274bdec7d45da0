"""The U-Net of NCSN++ with its options, which make it that of DDPM++, DDPM and EDM as well."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from scorefield._inputs import Shape, as_shape, check_event
from scorefield.nn.ncsnpp_parts import Block, Down, Form, Pyramid, PyramidIn, PyramidOut, Up, initialise
from scorefield.nn.network import Network, filled
from scorefield.nn.resampling import Rate, ResampleConv
from scorefield.nn.time_embedding import TimeEmbedding


class NCSNpp(Network):
    """NCSN++ and its kin: one graph for the networks that the field's image results were published with.

    The defaults are those of NCSN++ for CIFAR-10 (VE, Song et al. 2021). The others change these arguments:

    | network | arguments |
    |---|---|
    | DDPM++ (Song et al. 2021) | `fourier_scale=None, fir=False, pyramid_in=Pyramid.NONE` |
    | DDPM, as Song et al. 2021 built it | the same, `resample_blocks=False, rescale=False, group_width=1, blocks=2` |
    | DDPM (Ho et al. 2020) | the same, `attention_each=True` |
    | EDM's DDPM++ (Karras et al. 2022) | those of DDPM++, `channels=(256, 256, 256), attention=(False, True, False)` |
    | EDM's NCSN++ | `channels=(256, 256, 256), attention=(False, True, False)` |
    | deep variants | `blocks=8` |
    | 256 px | `channels=(128, 128, 256, 256, 256, 256, 256), blocks=2`, pyramids SKIP, attention in the fifth level |
    | 1024 px | `width=16, channels=(16, 32, 64, 128, 256, 512, 512, 512), blocks=1`, likewise in the seventh |

    The resolution halves from each level to the next; sides that are no multiples of 2^(levels - 1) are filled up with
    zeros, and the output is cut to size. Any size will do, whatever the size in training.

    Args:
        event_shape: (channels, height, width); only the number of channels is used.
        classes: number of classes, 0 for none. Label -1 stands for an unknown class  (Karras et al. 2022).
        width: channels after the first convolution; the embedding has four times as many.
        channels: width of each level, finest first.
        blocks: residual blocks in each level, one more on the way up.
        attention: whether each level has self-attention, after each block going down and the last one going up.
        fourier_scale: standard deviation of the random frequencies at which sines and cosines see the noise level, for
            preconditioners that give its logarithm; None for fixed ones, for those that give a time up to about 1000.
        frequency_shift: 0 or 1, of the fixed frequencies: see `TimeEmbedding`.
        resample_blocks: change resolution inside residual blocks (Brock et al. 2019), instead of by a convolution.
        fir: change resolution by a smooth filter  (Karras et al. 2020).
        centred: without `fir` and `resample_blocks`, the place of the convolutions of stride 2: see `ResampleConv`.
        rescale: divide the sum of a residual block and its shortcut by sqrt(2).
        pyramid_in: how the image is brought in at each resolution.
        pyramid_out: how the images of all resolutions make the output.
        concatenate: bring the image in beside the features, instead of adding it to them (Pyramid.SKIP).
        attention_each: attention after each block going up, too.
        group_width: least number of channels in a group of the norms, which have at most 32.
        eps: added to variances by the norms.
        head_channels: channels of a head of attention; None for one head.
        dropout: rate inside the blocks.
        checkpointing: keep only the blocks' inputs and compute the rest again in the backward pass: less memory, more
            time.
        label_last: add the class to the embedding behind its layers, as diffusers does, instead of before them.
        scalars: names of further numbers in [0, 1] that it is told, see `Scalars`.
    """

    def __init__(
        self,
        event_shape: Shape,
        classes: int = 0,
        width: int = 128,
        channels: Sequence[int] = (128, 256, 256, 256),
        blocks: int = 4,
        attention: Sequence[bool] = (False, True, False, False),
        fourier_scale: float | None = 16.0,
        frequency_shift: int = 1,
        resample_blocks: bool = True,
        fir: bool = True,
        centred: bool = False,
        rescale: bool = True,
        pyramid_in: Pyramid = Pyramid.RESIDUAL,
        pyramid_out: Pyramid = Pyramid.NONE,
        concatenate: bool = False,
        attention_each: bool = False,
        group_width: int = 4,
        eps: float = 1e-6,
        head_channels: int | None = None,
        dropout: float = 0.1,
        checkpointing: bool = False,
        label_last: bool = False,
        scalars: Sequence[str] = (),
    ) -> None:
        super().__init__()
        event_shape = as_shape(event_shape)
        if len(event_shape) != 3 or classes < 0:
            raise ValueError(
                f"NCSNpp takes images, events of shape (channels, height, width), and classes >= 0; got events "
                f"{event_shape}, classes={classes}: use UNet for signals and volumes, MLP for vectors"
            )
        if blocks < 1 or min(channels, default=0) < 1 or len(attention) != len(channels):
            raise ValueError(
                f"wanted blocks >= 1, at least one level of channels, and attention for each; got blocks={blocks}, "
                f"channels={tuple(channels)}, attention={tuple(attention)}"
            )
        if pyramid_in not in list(Pyramid) or pyramid_out not in list(Pyramid):
            raise ValueError(f"wanted pyramids of {', '.join(map(str, Pyramid))}; got {pyramid_in}, {pyramid_out}")
        heads_fit = head_channels is None or head_channels >= 1
        if min(width, group_width) < 1 or not heads_fit or not eps > 0 or frequency_shift not in (0, 1):
            raise ValueError(
                "wanted width, group_width and head_channels >= 1, eps > 0, and frequency_shift 0 or 1; got "
                f"{width}, {group_width}, {head_channels}, {eps}, {frequency_shift}"
            )
        self.event_shape, self.classes, self.width = event_shape, classes, width
        self.channels, self.blocks, self.attention = tuple(channels), blocks, tuple(attention)
        self.fourier_scale, self.frequency_shift = fourier_scale, frequency_shift
        self.resample_blocks, self.fir, self.centred = resample_blocks, fir, centred
        self.rescale, self.pyramid_in, self.pyramid_out = rescale, pyramid_in, pyramid_out
        self.concatenate, self.attention_each, self.group_width = concatenate, attention_each, group_width
        self.eps, self.head_channels, self.dropout = eps, head_channels, dropout
        self.label_last, self.checkpointing, self.scalars = label_last, checkpointing, tuple(scalars)

        scale = 0.5**0.5 if rescale else 1.0
        form = Form(4 * width, fir, centred, scale, group_width, eps, head_channels, dropout, checkpointing)
        features = width if fourier_scale is None else 2 * width
        self.embedding = TimeEmbedding(
            features, form.embedding, fourier_scale, classes, frequency_shift, label_last, scalars
        )
        self.inp = nn.Conv2d(event_shape[0], width, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        widths = self._add_levels_down(form)
        now = widths[-1]
        self.middle = nn.ModuleList((Block(form, now, now, attends=True), Block(form, now, now)))
        self._add_levels_up(form, widths)
        skip = pyramid_out is Pyramid.SKIP
        self.norm = None if skip else form.norm(channels[0])
        self.out = None if skip else nn.Conv2d(channels[0], event_shape[0], 3, padding=1)
        initialise(self)
        if self.out is not None:
            nn.init.zeros_(self.out.weight)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def _add_levels_down(self, form: Form) -> list[int]:
        """The levels down; returns the channels of each feature map that the way up takes."""
        now, image, widths, last = self.width, self.event_shape[0], [self.width], len(self.channels) - 1
        for level, (wide, attends) in enumerate(zip(self.channels, self.attention, strict=True)):
            blocks = [Block(form, inp, wide, attends) for inp in (now, *[wide] * (self.blocks - 1))]
            now, resample, pyramid = wide, None, None
            widths += [wide] * self.blocks
            if level < last:
                resample = self._resample(form, Rate.DOWN, wide)
                if self.pyramid_in is not Pyramid.NONE:
                    pyramid = PyramidIn(form, self.pyramid_in, image, wide, self.concatenate)
                    image = wide if pyramid.residual else image
                    now = 2 * wide if pyramid.concatenates else wide
                widths.append(now)
            self.down.append(Down(blocks, resample, pyramid))
        return widths

    def _add_levels_up(self, form: Form, widths: Sequence[int]) -> None:
        """The levels up from the lowest, whose blocks take the feature maps of these channels from their end."""
        waiting, now, before = list(widths), widths[-1], 0
        for level, (wide, attends) in reversed(list(enumerate(zip(self.channels, self.attention, strict=True)))):
            blocks: list[Block] = []
            for k in range(self.blocks + 1):
                blocks.append(
                    Block(form, now + waiting.pop(), wide, attends and (self.attention_each or k == self.blocks))
                )
                now = wide
            pyramid = None
            if self.pyramid_out is not Pyramid.NONE:
                pyramid = PyramidOut(form, self.pyramid_out, wide, self.event_shape[0], before)
                before = wide if pyramid.residual else self.event_shape[0]
            self.up.append(Up(blocks, pyramid, self._resample(form, Rate.UP, wide) if level else None))

    def _resample(self, form: Form, rate: Rate, channels: int) -> Block | ResampleConv:
        if self.resample_blocks:
            return Block(form, channels, channels, rate=rate)
        return form.resample_conv(rate, channels, channels)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "..."],
        label: Int64[Tensor, "..."] | None = None,
        cond: Tensor | None = None,
        **scalars: Tensor,
    ) -> Float[Tensor, "b c h w"]:
        """F(x, noise)."""
        check_event(x, self.event_shape, "this NCSNpp", any_size=True)
        if cond is not None:
            raise ValueError("NCSNpp takes no conditions but labels: use UNet, or leave them out")
        embedding = self.embedding(noise, label, scalars)
        height, width = x.shape[2:]
        image = filled(x, 2 ** (len(self.channels) - 1)).contiguous(memory_format=torch.channels_last)
        skips: list[Tensor] = [self.inp(image)]
        for level in self.down:
            features, image = level(skips[-1], image, embedding)
            skips += features
        h = skips[-1]
        for block in self.middle:
            h = block(h, embedding)
        for level in self.up:
            h, image = level(h, skips, image, embedding)
        y = image if self.out is None or self.norm is None else self.out(self.norm(h))
        return y[..., :height, :width]

"""The published networks, and how many parameters each has."""

from scorefield.nn import NCSN, NCSNpp, Pyramid

DDPMPP = {"fourier_scale": None, "fir": False, "pyramid_in": Pyramid.NONE}
DDPM = {**DDPMPP, "resample_blocks": False, "rescale": False, "group_width": 1, "blocks": 2}
SKIPS = {"pyramid_in": Pyramid.SKIP, "pyramid_out": Pyramid.SKIP}
EDM_WIDTHS = {"channels": (256, 256, 256), "attention": (False, True, False)}
LARGE = {"channels": (128, 128, *[256] * 5), "blocks": 2, "attention": [k == 4 for k in range(7)], **SKIPS}
HUGE = {
    "width": 16,
    "channels": (16, 32, 64, 128, 256, 512, 512, 512),
    "blocks": 1,
    "attention": [k == 6 for k in range(8)],
    **SKIPS,
}
COUNTS = {
    "DDPM, by Song et al.": (NCSNpp, DDPM, 35_218_947),
    "DDPM, by Ho et al.": (NCSNpp, {**DDPM, "attention_each": True}, 35_746_307),
    "DDPM++": (NCSNpp, DDPMPP, 61_804_419),
    "DDPM++ deep": (NCSNpp, {**DDPMPP, "blocks": 8}, 106_632_579),
    "NCSN++ positional": (NCSNpp, {"fourier_scale": None}, 62_693_251),
    "NCSN++ VE": (NCSNpp, {}, 62_758_787),
    "NCSN++ VE deep": (NCSNpp, {"blocks": 8}, 107_586_947),
    "NCSN++ 256 px": (NCSNpp, LARGE, 65_574_421),
    "NCSN++ 1024 px": (NCSNpp, HUGE, 105_785_880),
    "EDM's DDPM++": (NCSNpp, {**DDPMPP, **EDM_WIDTHS}, 55_732_739),
    "NCSN": (NCSN, {"noise_levels": 10}, 30_117_635),
    "NCSNv2": (NCSN, {}, 29_694_083),
}

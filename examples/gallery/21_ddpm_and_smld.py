"""DDPM and SMLD are discretisations of two SDEs: VP and VE.

DDPM's chain x_i = sqrt(1 - beta_i) x_{i-1} + sqrt(beta_i) z with beta_i = beta(i/N) / N becomes
dx = -beta/2 x dt + sqrt(beta) dw as N grows, and SMLD's noise scales sigma_i the process dx = sqrt(d sigma^2 / dt) dw.
Their marginals differ from those of the SDE by about 1/N, and so do the samples of the chains run backwards.
"""

import torch
from matplotlib.figure import Figure

import scorefield as sf
from scorefield.certify import output_law
from scorefield.solvers import Ancestral


def ddpm(sde: sf.VP, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    log_snr = sf.DDPMPrecond(sde.beta_min / n, sde.beta_max / n, n).log_snrs()  # of steps 1 to n
    return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()


def smld(sde: sf.VE, n: int) -> torch.Tensor:
    return sde.sigma(torch.tensor(sf.grids.smld(sde, n)[-2::-1], dtype=torch.float64))


def main(out: str = "docs/gallery/21_ddpm_and_smld.png") -> None:
    vp, ve, t = sf.VP(), sf.VE(0.01, 50.0), torch.linspace(0, 1, 400, dtype=torch.float64)
    left, middle, right = (figure := Figure(figsize=(12.5, 3.8), layout="constrained")).subplots(1, 3)
    left.plot(t, vp.alpha(t), "C0", label="alpha of VP")
    left.plot(t, vp.sigma(t), "C1", label="sigma of VP")
    middle.semilogy(t, ve.sigma(t), "C1", label="sigma of VE")
    for n, marker in ((25, "o"), (100, ".")):
        at, mark = torch.arange(1, n + 1) / n, {"color": "0.3", "marker": marker, "ls": "", "markersize": 4}
        left.plot(at, ddpm(vp, n)[0], **mark, markerfacecolor="none", label=f"DDPM, N = {n}")
        left.plot(at, ddpm(vp, n)[1], **mark, markerfacecolor="none")
        middle.plot(at, smld(ve, n), **mark, markerfacecolor="none", label=f"SMLD, N = {n}")

    counts, variances = (25, 50, 100, 200, 500, 1000), torch.arange(1.0, 17.0) ** -2
    errors = {"SMLD: log sigma": [], "DDPM: sigma": [], "DDPM: samples": [], "SMLD: samples": []}
    for n in counts:
        at = torch.arange(1, n + 1, dtype=torch.float64) / n
        errors["DDPM: sigma"].append(float((ddpm(vp, n)[1] - vp.sigma(at)).abs().max()))
        errors["SMLD: log sigma"].append(float((smld(ve, n) / ve.sigma(at)).log().abs().max()))
        for name, sde, grid in (("DDPM", vp, sf.grids.ddpm), ("SMLD", ve, sf.grids.smld)):  # exact, on normal data
            errors[f"{name}: samples"].append(output_law(Ancestral(), grid(sde, n), sde, variances).error)
    for (name, values), line in zip(errors.items(), ("C1o-", "C0o-", "C0^--", "C1^--"), strict=True):
        print(name, *(f"{n}: {value:.2g}" for n, value in zip(counts, values, strict=True)))
        right.loglog(counts, values, line, markersize=4, label=name)
    right.loglog(counts, [1 / n for n in counts], color="0.6", label="1 / N")
    left.set(xlabel="t, or i / N", title="DDPM is VP in N steps")
    middle.set(xlabel="t, or i / N", title="SMLD is VE in N steps")
    right.set(xlabel="N", ylabel="largest error of marginals, W2 of samples", title="The differences vanish with 1 / N")
    for axes in figure.axes:
        axes.legend(frameon=False, fontsize="small")
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()

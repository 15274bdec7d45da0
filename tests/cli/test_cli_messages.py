"""What is wrong with a command is said in one line: what was got, what was wanted, what may have been meant."""

from __future__ import annotations

import re

import pytest

from scorefield.cli import main

T = "train --data digits --out x "
CASES = {
    "train": "train wants --data, --out as well",
    "sample": "sample wants run (the directory of a trained model) as well",
    "import": "import wants path (what another project has written), --format, --out as well",
    "": "wanted a command: scorefield --help names them",
    "samples run": "there is no command samples: did you mean sample?",
    "plot run": "there is no command plot: there are demo, train, train-classifier, sample,",
    T + "--outt y": "there is no option --outt: did you mean --out?",
    T + "--reading.image.fit pad": "there is no option --reading.image.fit: did you mean --reading.images.fit",
    T + "more": "more: one word too many",
    T + "--sde": "--sde: expected one argument",
    T + "--steps x": "--steps: wanted a whole number; got x",
    T + "--seed 1.5": "--seed: wanted a whole number; got 1.5",
    T + "--energy maybe": "--energy: wanted true or false; got maybe",
    T + "--types Foo": "--types: there is no class Foo: one of your own needs its import path",
    T + "--precision float16": "--precision: wanted float32, bfloat16; got float16",
    T + "--reading.images.fit foo": "--reading.images.fit: wanted crop, pad, stretch; got foo",
    T + "--reading.images.size big": "--reading.images.size: wanted a whole number or a list such as 1,2; got big",
    T + "--optimisation.lr x": "--optimisation.lr: wanted a number; got x",
    T + "--config none.yaml": "--config: File does not exist: ",
    T + "--sde Vp": "--sde: there is no class Vp: did you mean VP?",
    T + "--net Unet": "--net: there is no class Unet: did you mean UNet?",
    T + "--objective DSM": "--objective: there is no class DSM; there are CrossEntropy, LabelDropout,",
    T + "--sde.beta_max 3": "--sde.beta_max: is an option of a class: name the class before it",
    T + "--sde VP(beta_max=3)": "--sde: options of a class have words of their own: VP, then the option's name",
    T + "--sde numpy.linalg.foo": "--sde: module 'numpy.linalg' has no attribute 'foo'; got numpy.linalg.foo",
    T + "--sde numpy.linalg.norm": "--sde: wanted a class of the kind SDE; got numpy.linalg.norm",
    T + "--sde VP --sde.beta_max a": "--sde.beta_max: wanted a number; got a",
    T + "--net UNet --net.channels a": "--net.channels: wanted a whole number; got a",
    T + "--optimisation.widths 0.1,b": "--optimisation.widths: wanted a number; got b",
    "invert run --operator Colorize --operator.weights a --y x.png": "--operator.weights: wanted a number; got a",
    T + "--sde VP --sde.beta_maxx 3": "--sde: VP has no option beta_maxx: did you mean beta_max",
    T + "--sde VP --sde.gamma 3": "--sde: VP has no option gamma; it has beta_min, beta_max, T, t_min, t_end",
    T + "--sde VP --sde.beta_max -3": "VP needs 0 < beta_min <= beta_max; got beta_min=0.1, beta_max=-3.0",
    T + "--sde VE --sde.sigma_max 0": "VE needs 0 < sigma_min < sigma_max; got sigma_min=0.01, sigma_max=0.0",
    T + "--net MLP --net.feature 3": "--net: MLP has no option feature: did you mean features",
    T + "--objective DenoisingScoreMatching --objective.weight Foo": "--objective.weight: there is no class Foo",
    T + "--objective DenoisingScoreMatching --objective.weight EDMWeight --objective.weight.sigma_data x": (
        "--objective.weight.sigma_data: wanted a number; got x"
    ),
    "sample run --out x.png --solver UNet": "--solver: UNet is a class of another kind; there are BogackiShampine,",
    "sample run --out x.png --solver Heun --solver.order 3": "--solver: Heun has no option order; it has none",
    "sample run --out x.png --grid logsnr": "--grid: wanted log_snr, information, karras, uniform, quadratic,",
    "sample run --out x.png --guidance_interval 3": "--guidance_interval: wanted a list such as 1,2; got 3",
    "sample run --out x.png --guidance_interval [3,a]": "--guidance_interval: wanted a number; got a",
    "certify Heum": "--solver: there is no class Heum: did you mean Heun?",
    "invert run --operator Quantise": "--operator: Quantise is for Python alone; there are Blur, ChannelMix,",
    "invert run --operator Inpainting": "--operator: there is no class Inpainting; there are Blur, ChannelMix,",
    "invert run --operator Blur --operator.sigmaa 2 --y x.png --out y": "--operator: Blur has no option sigmaa",
    "invert run --operator Mask --method dps": "--method: there is no class dps: did you mean DAPS?",
}


@pytest.mark.parametrize("words", CASES)
def test_a_mistake_is_explained_in_one_line(words, capsys):
    try:
        status = main(words.split())
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr().err
    assert status == 2 and said.count("\n") == 1
    assert re.match(r"scorefield(?: [\w-]+)?: error: ", said) and f"error: {CASES[words]}" in said
    assert not re.search(r"Namespace|NestedArg|<class|<enum|Parser key|Union|did you mean (\w+)\?.*\b\1\b", said)
    meant = re.search(r"no class (\S+): did you mean (\S+)\?", said)
    assert meant is None or meant[1] != meant[2]


@pytest.mark.parametrize("command", ["evaluate", "stats"])
def test_the_help_names_no_classes_of_torch(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert "--extractor" in text and "torch." not in text

"""The commands and options that scripts rely on. A change here is a change of the product."""

from segcli.cli.reference import commands

EVERYWHERE = ["--quiet", "-q", "--debug"]
FROZEN = {
    "segcli": ["--version", "--install-completion", "--show-completion"],
    "segcli prepare": [
        *("SOURCE…", "--out", "--format", "--source", "--split", "--split-by", "--seed", "--link", "--check"),
        *(
            "--fix",
            "--drop",
            "--crowd",
            "--tile",
            "--overlap",
            "--to",
            "--masks",
            "--ignore",
            "--threshold",
            "--set…",
        ),
        *("--trust-paths", "--force", "--json"),
    ],
    "segcli train": ["[RECIPE]", "--data", "--set…", "--out", "--resume", "--dry-run", "--force"],
    "segcli eval": [
        "RUN|RECIPE|MODEL.onnx",
        "--weights",
        "--data",
        "--split",
        "--check",
        "--nms",
        "--diagnose",
        "--json",
    ],
    "segcli predict": [
        "RUN|RECIPE|MODEL.onnx",
        "INPUT…",
        "--weights",
        "--out",
        "--score",
        "--save",
        "--classes",
        "--tta",
        "--tile",
        "--overlap",
        "--recursive",
        "--uncertain",
        "--pixel-size",
        "--texture",
        "--force",
        "--json",
    ],
    "segcli compare": [
        "[RUN|RECIPE]…",
        "--train",
        "--data",
        "--minutes",
        "--set…",
        "--published",
        "--sort",
        "--html",
        "--csv",
        "--plot",
        "--force",
        "--json",
    ],
    "segcli export": ["RUN", "--to", "--int8", "--no-check", "--out", "--force", "--json"],
    "segcli recipes": ["--task", "--json"],
    "segcli models": ["--task", "--json"],
    "segcli visualize": [],
    "segcli visualize data": ["DIR", "--augmented", "--split", "--out"],
    "segcli visualize explain": ["RUN|RECIPE", "--image", "--split", "--what…", "--over-time", "--weights", "--out"],
    "segcli visualize predictions": ["RUN", "--worst", "--split", "--out"],
}


def spelled(parameter) -> list[str]:
    if parameter.param_type_name == "argument":
        name = parameter.metavar if parameter.required else f"[{parameter.metavar}]"
        return [name + ("…" if parameter.nargs == -1 else "")]
    return [name + ("…" if parameter.multiple else "") for name in [*parameter.opts, *parameter.secondary_opts]]


def test_commands_and_options_are_as_promised():
    found = {path: [name for p in one.params for name in spelled(p)] for path, one in commands()}
    assert list(found) == sorted(FROZEN, key=list(found).index)
    for path, names in found.items():
        everywhere = [] if path == "segcli visualize" else EVERYWHERE
        own = [n for n in names if n not in ("--help", "-h")]
        assert sorted(own) == sorted([*FROZEN[path], *everywhere]), path


def test_defaults_are_as_promised():
    defaults = {
        (path, p.opts[0]): p.default
        for path, one in commands()
        for p in one.params
        if p.param_type_name == "option" and type(p.default) in (int, float, str)
    }
    assert defaults == {
        ("segcli prepare", "--seed"): 0,
        ("segcli prepare", "--overlap"): 0,
        ("segcli predict", "--score"): 0.5,
        ("segcli predict", "--save"): "overlay,coco,png",
    }

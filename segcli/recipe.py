"""The recipe: one YAML file that says what to train on what. Strict: every wrong key is reported at once."""

import re
import typing
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from segcli.errors import UsageError
from segcli.lookup import nearest

PRIMARY = {
    "detection": "bbox_AP",
    "instance": "segm_AP",
    "semantic": "mIoU",
    "panoptic": "PQ",
    "keypoints": "keypoints_AP",
    "densepose": "densepose_part_accuracy",
    "mesh": "mesh_AP",
}
Task = Literal["detection", "instance", "semantic", "panoptic", "keypoints", "densepose", "mesh"]
LENGTHS = {"epochs", "steps", "minutes"}  # of training: one is set
FOLDER = Path(str(resources.files("segcli") / "recipes"))  # installed with the wheel
CHECKOUT = Path(__file__).parent.parent / "recipes"  # the same files, where segcli runs from a checkout


class Settings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        extra="forbid", validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Data(Settings):
    name: str | None = None
    """A known dataset's name, prepared by `train` when `root` is not there yet; null for your own data."""
    root: str
    """The canonical dataset folder."""
    source: str | None = None
    """Where the raw data lies, when `train` has to prepare it and it is not to be downloaded."""
    prepare: dict[str, Any] = {}
    """Settings of the embedded generator (`shapes`: train, val, seed, size)."""
    split_file: str | None = None
    """A text file beside the recipe that names the val images, one a line; everything else is train."""
    size: pydantic.PositiveInt | tuple[pydantic.PositiveInt, pydantic.PositiveInt] | None = None
    """Longest side in pixels, or [short side, longest side]; null is the model's own rule."""
    augment: dict[str, Any] = {}
    """Training augmentation (see docs/train.md); {} leaves images as they are."""


class Optimizer(Settings):
    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = pydantic.Field(1e-4, gt=0)
    """Learning rate of everything but the backbone."""
    backbone_lr: float | None = pydantic.Field(None, ge=0)
    """Learning rate of the backbone; null: the same as lr."""
    weight_decay: float = pydantic.Field(1e-4, ge=0)
    norm_weight_decay: float | None = pydantic.Field(None, ge=0)
    """Weight decay of norms, biases and embeddings; null: the same as weight_decay."""
    momentum: float = 0.9
    """SGD only."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW only."""
    lr_scales: dict[str, float] = {}
    """Parameter-name fragment -> factor on its learning rate."""


class Schedule(Settings):
    name: Literal["constant", "cosine", "step", "poly"] = "cosine"
    warmup_steps: int = pydantic.Field(0, ge=0)
    warmup_factor: float = 0.001
    flat: float = pydantic.Field(0.0, ge=0, lt=1)
    """Share of the training at the full rate before cosine or poly begins."""
    final: float = pydantic.Field(0.0, ge=0, le=1)
    """The rate at the end, as a factor (cosine)."""
    milestones: list[float] = []
    """Shares of the training (0..1) at which `step` multiplies the rate by gamma."""
    gamma: float = 0.1
    power: float = 0.9
    """Exponent of poly."""


class Train(Settings):
    epochs: float | None = pydantic.Field(None, gt=0)
    steps: int | None = pydantic.Field(None, gt=0)
    minutes: float | None = pydantic.Field(None, gt=0)
    """Calibrated once on this machine and then written into the run as `steps`."""
    batch_size: int = pydantic.Field(2, gt=0)
    """Images per optimiser step and process, accumulation included."""
    accumulate: int = pydantic.Field(1, gt=0)
    """Forward passes per step; batch_size must be a multiple of it."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    ema: float | None = pydantic.Field(None, gt=0, lt=1)
    """Decay of the exponential moving average of the weights, which is then what is evaluated and kept as best."""
    clip: float | None = pydantic.Field(None, gt=0)
    """Largest gradient norm over the whole model."""
    evaluations: int = pydantic.Field(4, ge=0)
    """How often the val split is scored, spread evenly; the last one is at the end."""
    log_every: int = pydantic.Field(10, gt=0)
    save_minutes: float = pydantic.Field(5.0, gt=0)
    """checkpoints/last.pt is written this often, at every evaluation and when interrupted."""
    seed: int = 0

    @pydantic.model_validator(mode="after")
    def _one_length(self) -> "Train":
        if sum(v is not None for v in (self.epochs, self.steps, self.minutes)) != 1:
            raise ValueError("set exactly one of epochs, steps, minutes (the others null)")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}")
        return self


class Eval(Settings):
    split: str = "val"
    max_detections: int = pydantic.Field(100, gt=0)
    batch_size: int = pydantic.Field(1, gt=0)


class Hardware(Settings):
    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps"""
    devices: int = pydantic.Field(1, gt=0)
    nodes: int = pydantic.Field(1, gt=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    workers: int = pydantic.Field(2, ge=0)
    threads: int | None = pydantic.Field(None, gt=0)
    """CPU threads of the training process; null is torch's own choice."""
    compile: bool = False

    @pydantic.field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
            raise ValueError(f"expected auto, cpu, mps, cuda or cuda:N, not {value!r}")
        return value


class Expect(Settings):
    value: float
    tolerance: float = pydantic.Field(0.02, ge=0)


class Recipe(Settings):
    """A whole recipe. `path` is where it was read (not part of the file)."""

    name: str
    task: Task
    data: Data
    model: dict[str, Any]
    init: str | None = None
    train: Train = Train(epochs=1)
    eval: Eval = Eval()
    hardware: Hardware = Hardware()
    expect: dict[str, Expect] = {}

    _path: Path | None = pydantic.PrivateAttr(None)

    @property
    def path(self) -> Path | None:
        return self._path

    @property
    def primary(self) -> str:
        """The metric that decides which checkpoint is best."""
        return PRIMARY[self.task]

    @pydantic.model_validator(mode="after")
    def _model_has_name(self) -> "Recipe":
        if not isinstance(self.model.get("name"), str):
            raise ValueError("model.name is missing")
        return self

    @classmethod
    def load(cls, path: str | Path, overrides: dict[str, Any] | None = None) -> "Recipe":
        """Read a recipe by path or shipped name, merge what it `extends`, apply overrides ({"train.epochs": 3}).

        Raises UsageError that lists every problem: unknown keys with the nearest valid one, wrong types, wrong values.
        """
        file = find_recipe(path)
        data = _read(file, ())
        for key, value in (overrides or {}).items():
            _put(data, key, value)
        return cls.parse(data, str(file), file, flags=list(overrides or {}))

    @classmethod
    def parse(cls, data: dict[str, Any], where: str, path: Path | None = None, flags: Sequence[str] = ()) -> "Recipe":
        """Validate plain data. `where` names the file in errors; `flags` are the keys that came from `--set`."""
        try:
            recipe = cls.model_validate(data)
        except pydantic.ValidationError as error:
            raise UsageError(f"{where}: " + "; ".join(_explanations(error.errors(), flags))) from error
        recipe._path = path
        return recipe

    def resolve(self, name: str) -> Path:
        """A file that the recipe names: absolute, beside the recipe, or in the working folder."""
        beside = self._path.parent / name if self._path else Path(name)
        return beside if beside.exists() else Path(name)

    def to_yaml(self) -> str:
        """The recipe as a file; reading that file gives an equal recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def shipped() -> list[str]:
    """Names of the recipes that come with segcli, such as `quickstart/mask_rcnn`."""
    root = _shipped_root()
    return sorted(p.relative_to(root).with_suffix("").as_posix() for p in root.rglob("*.yaml"))


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe given by path or by shipped name. Raises UsageError with the nearest name."""
    path = Path(name)
    if path.is_file():
        return path
    text = str(name).removeprefix("recipes/").removesuffix(".yaml")
    for candidate in shipped():
        if candidate == text:
            return _shipped_root() / f"{candidate}.yaml"
    raise UsageError(f"no recipe {str(name)!r}", hint=nearest(text, shipped()))


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """`["train.epochs=3", ...]` -> {"train.epochs": 3}; values are YAML, never evaluated."""
    out = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise UsageError(f"--set {pair!r} is not KEY=VALUE", hint="for example --set train.epochs=3")
        try:
            out[key] = yaml.load(value, Loader=_Loader)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {pair}: the value is not YAML: {_yaml_problem(error)}") from error
    return out


def schema() -> dict[str, Any]:
    """JSON Schema of a recipe file, for editors. Nothing is required: what `extends` names may provide it."""
    out = Recipe.model_json_schema()
    extends = {
        "type": "string",
        "description": "Another recipe beside this one; its keys hold where this file is silent.",
    }
    out["properties"] = {"extends": extends, **out["properties"]}
    for part in (out, *out["$defs"].values()):
        part.pop("required", None)
    return out


def _shipped_root() -> Path:
    return FOLDER if FOLDER.is_dir() else CHECKOUT


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid YAML: {_yaml_problem(error)}") from error
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: a recipe is a mapping of keys to values, not {type(data).__name__}")
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if path.resolve() in seen:
        raise UsageError(f"{path}: extends itself through {parent}")
    file = path.parent / str(parent)
    if not file.is_file():
        raise UsageError(f"{path}: extends {parent}, but there is no file {file}")
    base = _read(file, (*seen, path.resolve()))
    section = base.get("data")
    names = section.get("split_file") if isinstance(section, dict) else None
    if isinstance(section, dict) and isinstance(names, str) and (file.parent / names).is_file():
        section["split_file"] = str(file.parent / names)  # it lies beside the parent, which may be another folder
    return _merge(base, data)


def _yaml_problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return " ".join(str(getattr(error, "problem", None) or error).split()) + place


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on `base`, mapping by mapping; a mapping of another `name` replaces the whole one, null removes it."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        same = (
            isinstance(old, dict) and isinstance(value, dict) and value.get("name", old.get("name")) == old.get("name")
        )
        out[key] = _merge(old, value) if same and isinstance(old, dict) else value
        if value is None and (old is None or isinstance(old, dict)):
            out.pop(key, None)
        if key == "train" and isinstance(value, dict) and LENGTHS & value.keys():  # one length replaces another
            out[key] = {k: v for k, v in out[key].items() if k not in LENGTHS or k in value}
    return out


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    parts = key.split(".")
    here = data
    for i, part in enumerate(parts[:-1]):
        step = here.setdefault(part, {})
        if step is None:
            step = here[part] = {}
        if not isinstance(step, dict):
            raise UsageError(f"--set {key}: {'.'.join(parts[: i + 1])} is not a mapping")
        here = step
    if value is None and isinstance(here.get(parts[-1]), dict):
        del here[parts[-1]]  # as null in a file that extends another one
    else:
        here[parts[-1]] = value
    if parts[:-1] == ["train"] and parts[-1] in LENGTHS and value is not None:
        for other in LENGTHS - {parts[-1]}:
            here.pop(other, None)


class _Loader(yaml.SafeLoader):
    """The safe loader, with two differences: 1e-4 is a number, and a key given twice is an error."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.composer.ComposerError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)


def _explanations(errors: Sequence[Any], flags: Sequence[str]) -> list[str]:
    """One clause a mistake; a key that came from `--set` is named by its flag."""
    out: dict[str, str] = {}
    for error in errors:
        # the loc of a value that may be several types ends in a type's name, once for each of them
        loc = [p for p in error["loc"] if not re.search(r"^constrained-|^tuple\[|\[key\]", str(p))]
        place = ".".join(str(p) for p in loc)
        flag = next((f for f in flags if place == f or place.startswith(f"{f}.")), None)
        out.setdefault(place, (f"--set {flag}: " if flag else "") + _explain(error, loc, place))
    return list(out.values())


def _explain(error: Any, loc: list[Any], place: str) -> str:
    if error["type"] == "extra_forbidden":
        return f"{place} is not a recipe key ({nearest(str(loc[-1]), _keys_at(loc[:-1]))})"
    if error["type"] == "missing":
        return f"{place} is missing"
    if len(loc) < len(error["loc"]) and not isinstance(error["input"], int):
        return f"{place}: expected a number or a pair of numbers, not {error['input']!r}"
    message = error["msg"].removeprefix("Value error, ").removesuffix(f" or instance of {place.split('.')[-1].title()}")
    message = message.replace("valid dictionary", "mapping of keys to values")
    shown = "" if error["type"] == "value_error" else f", not {error['input']!r}"
    return f"{place}: {message[0].lower() + message[1:]}{shown}" if place else message


def _keys_at(loc: Sequence[Any]) -> list[str]:
    """The keys of the section at `loc`, such as ("train", "optimizer")."""
    model: Any = Recipe
    for part in loc:
        if typing.get_origin(model) is dict:  # expect: any key, then an Expect
            model = typing.get_args(model)[1]
        else:
            model = model.model_fields[part].annotation
    return [*model.model_fields]

"""The recipe: one YAML file that says what to train on what. Strict: every wrong key is reported at once."""

import json
import re
import typing
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
FOLDER = Path(str(resources.files("segcli") / "recipes"))  # installed with the wheel
CHECKOUT = Path(__file__).parent.parent / "recipes"  # the same files, where segcli runs from a checkout


class Settings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", validate_default=True, use_attribute_docstrings=True)


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
    size: int | tuple[int, int] | None = None
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
    """auto | cpu | cuda | mps"""
    devices: int = pydantic.Field(1, gt=0)
    nodes: int = pydantic.Field(1, gt=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    workers: int = pydantic.Field(2, ge=0)
    threads: int | None = pydantic.Field(None, gt=0)
    """CPU threads of the training process; null is torch's own choice."""
    compile: bool = False


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
        return cls.parse(data, str(file), file)

    @classmethod
    def parse(cls, data: dict[str, Any], where: str, path: Path | None = None) -> "Recipe":
        """Validate plain data. `where` names the file in errors."""
        try:
            recipe = cls.model_validate(data)
        except pydantic.ValidationError as error:
            raise UsageError(f"{where}: " + "; ".join(_explain(e) for e in error.errors())) from error
        recipe._path = path
        return recipe

    def resolve(self, name: str) -> Path:
        """A file that the recipe names: absolute, beside the recipe, or in the working folder."""
        beside = self._path.parent / name if self._path else Path(name)
        return beside if beside.exists() else Path(name)

    def to_yaml(self) -> str:
        return yaml.safe_dump(json.loads(self.model_dump_json()), sort_keys=False, allow_unicode=True)


def shipped() -> list[str]:
    """Names of the recipes that come with segcli, such as `quickstart/mask_rcnn`."""
    root = _shipped_root()
    return sorted(str(p.relative_to(root).with_suffix("")) for p in root.rglob("*.yaml"))


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
            out[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {pair!r}: the value is not YAML: {error}") from error
        if isinstance(out[key], str):
            try:  # YAML 1.1 reads 1e-4 as text; people mean the number
                out[key] = float(value)
            except ValueError:
                pass
    return out


def schema() -> dict[str, Any]:
    """JSON Schema of a recipe, for editors."""
    return Recipe.model_json_schema()


def _shipped_root() -> Path:
    return FOLDER if FOLDER.is_dir() else CHECKOUT


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
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
        raise UsageError(f"{path}: extends {parent}, which is not beside it")
    return _merge(_read(file, (*seen, path.resolve())), data)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on `base`, mapping by mapping; a model or head of another name replaces the whole mapping."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        same = (
            isinstance(old, dict) and isinstance(value, dict) and value.get("name", old.get("name")) == old.get("name")
        )
        out[key] = _merge(old, value) if same and isinstance(old, dict) else value
    lengths = {"epochs", "steps", "minutes"}
    if lengths & over.keys() and lengths & base.keys():
        out.update({k: None for k in lengths - over.keys() if k in base})
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
    here[parts[-1]] = value
    if parts[:-1] == ["train"] and parts[-1] in {"epochs", "steps", "minutes"} and value is not None:
        here.update({k: None for k in ("epochs", "steps", "minutes") if k != parts[-1] and k in here})


class _Loader(yaml.SafeLoader):
    """The safe loader, with two differences: 1e-4 is a number, and a key given twice is an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, typing.Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)


def _explain(error: Any) -> str:
    place = ".".join(str(p) for p in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{place} is not a recipe key ({nearest(str(error['loc'][-1]), _keys_at(error['loc'][:-1]))})"
    if error["type"] == "missing":
        return f"{place} is missing"
    message = error["msg"].removeprefix("Value error, ")
    shown = "" if error["type"] == "value_error" else f", not {error['input']!r}"
    return f"{place}: {message[0].lower() + message[1:]}{shown}" if place else message


def _keys_at(loc: tuple[Any, ...]) -> list[str]:
    model: Any = Recipe
    for part in loc:
        field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, Settings) else None
        model = field.annotation if field else None
    is_settings = isinstance(model, type) and issubclass(model, Settings)
    return [*model.model_fields] if is_settings else []

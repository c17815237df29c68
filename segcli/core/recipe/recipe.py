"""The recipe: one YAML file that says what to train on what. Strict: every wrong key is reported at once."""

import contextlib
import re
import typing
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml

from segcli.core.errors import SegcliError, UsageError
from segcli.core.files import LONGEST, LONGEST_PART, is_plain
from segcli.core.plugins import nearest
from segcli.core.recipe import model_numbers, old_names, own_data
from segcli.core.recipe.recipe_file import find_recipe as find_recipe
from segcli.core.recipe.recipe_file import find_source as find_source
from segcli.core.recipe.recipe_file import parse_overrides as parse_overrides
from segcli.core.recipe.recipe_file import put, read_recipe
from segcli.core.recipe.recipe_file import shipped as shipped
from segcli.core.tasks import TASKS

MOST_STEPS = 10**9  # at a thousand steps a second, eleven days
Side = Annotated[int, pydantic.Field(gt=0, le=65_535)]  # pixels
Beta = Annotated[float, pydantic.Field(ge=0, lt=1)]
if typing.TYPE_CHECKING:
    Task = str
else:
    Task = Literal[tuple(TASKS)]


class Settings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        extra="forbid", validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, data: Any) -> Any:
        """`expect: null` and the like: where a key can't be null, null means that it is not set."""
        if not isinstance(data, dict):
            return data
        fields = cls.model_fields
        return {k: v for k, v in data.items() if v is not None or k not in fields or fields[k].default is None}


def plain(value: str) -> str:
    """A name that files and folders are called by. Raises ValueError for one that leads elsewhere."""
    if not is_plain(value):
        raise ValueError(f"{value!r:.80} can't be the name of a file or folder: no / or \\, no control characters")
    return value


def place(value: str) -> str:
    """The path of a file or folder. Raises ValueError for one that no system takes."""
    whole = value.encode(errors="surrogatepass")
    if "\0" in value or len(whole) > LONGEST or max(map(len, re.split(rb"[/\\]", whole))) > LONGEST_PART:
        raise ValueError(f"{value!r:.80} can't be a path: a name in it has {LONGEST_PART} bytes at most, and no NUL")
    return value


SCENES = "scenes"  # as `init`: the weights that come with segcli (weights/scenes.py), where no file or run is called so
Place = Annotated[str, pydantic.AfterValidator(place)]


class Cache(Settings):
    """Decoded training images on disk."""

    gigabytes: float = pydantic.Field(20.0, gt=0)
    """Disk space at most; images beyond it are decoded each time."""
    longest: pydantic.PositiveInt | None = None
    """Images whose longest side has more pixels are shrunk to this before they are stored; null keeps their size."""
    folder: Place | None = None
    """Where; null: a folder of the dataset's own in ~/.cache/segcli (or $SEGCLI_CACHE)."""


class Data(Settings):
    name: str | None = None
    """A known dataset's name, prepared by `train` when `root` is not there yet; null for your own data."""
    root: Place
    """The canonical dataset folder."""
    source: Place | None = None
    """Where the raw data lies, when `train` has to prepare it and it is not to be downloaded."""
    prepare: dict[str, Any] = {}
    """Settings of the embedded generator (`shapes`: train, val, seed, size)."""
    drawn: int | None = pydantic.Field(None, ge=1, le=10**6)
    """Train on so many images of the embedded generator, each drawn when it is needed and none stored."""
    split_file: Place | None = None
    """A text file beside the recipe that names the val images, one a line; everything else is train."""
    size: Side | tuple[Side, Side] | None = None
    """Longest side in pixels, or [short side, longest side]; null is the model's own rule."""
    augment: dict[str, Any] = {}
    """Training augmentation (see docs/train.md); {} leaves images as they are."""
    cache: Cache | None = None
    """Keep decoded training images on disk, for large photographs that cost more to decode than to augment."""


class Optimizer(Settings):
    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = pydantic.Field(1e-4, gt=0)
    """Learning rate of everything but the backbone."""
    backbone_lr: float | None = pydantic.Field(None, ge=0)
    """Learning rate of the backbone; null: the same as lr. A rate of 0, here or by lr_scales, freezes."""
    layer_decay: float | None = pydantic.Field(None, gt=0, le=1)
    """Factor on the learning rate from each of the backbone's layers to the one before it; null: 1."""
    weight_decay: float = pydantic.Field(1e-4, ge=0)
    norm_weight_decay: float | None = pydantic.Field(None, ge=0)
    """Weight decay of norms, biases and embeddings; null: the same as weight_decay."""
    bias_weight_decay: float | None = pydantic.Field(None, ge=0)
    """Weight decay of biases, those of norms left out; null: the same as norm_weight_decay."""
    momentum: float = pydantic.Field(0.9, ge=0)
    """SGD only."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """AdamW only."""
    lr_scales: dict[str, Annotated[float, pydantic.Field(ge=0)]] = {}
    """Parameter-name fragment -> factor on its learning rate."""


class Schedule(Settings):
    name: Literal["constant", "cosine", "step", "poly"] = "cosine"
    warmup_steps: int = pydantic.Field(0, ge=0, le=MOST_STEPS)
    warmup_factor: float = 0.001
    new_layers_first: int = pydantic.Field(0, ge=0, le=MOST_STEPS)
    """Steps at the start in which only layers without pretrained weights learn; the others warm up after them."""
    flat: float = pydantic.Field(0.0, ge=0, lt=1)
    """Share of the training at the full rate before cosine or poly begins."""
    final: float = pydantic.Field(0.0, ge=0, le=1)
    """The rate at the end, as a factor (cosine)."""
    milestones: list[float] = []
    """Shares of the training (0..1) at which `step` multiplies the rate by gamma."""
    gamma: float = 0.1
    power: float = pydantic.Field(0.9, ge=0)
    """Exponent of poly."""


class Probe(Settings):
    """A short training that begins with this one's weights, as often as the val split is scored."""

    recipe: str
    """A recipe file, looked for from the working folder, or a shipped recipe's name."""
    steps: int = pydantic.Field(gt=0, le=MOST_STEPS)


class Train(Settings):
    epochs: float | None = pydantic.Field(None, gt=0, le=1e6)
    steps: int | None = pydantic.Field(None, gt=0, le=MOST_STEPS)
    minutes: float | None = pydantic.Field(None, gt=0, le=1e7)
    """Training time; written into the run as `steps`: as many as fit it on this machine."""
    retimed: list[tuple[int, int]] = []
    """How minutes became steps, in a run's recipe: from which step on, how many in all; repeated exactly. Where one
    begins at the last step of the one before, the schedule begins anew."""
    batch_size: int = pydantic.Field(2, gt=0, le=65_536)
    """Images per optimiser step and process, accumulation included."""
    accumulate: int = pydantic.Field(1, gt=0, le=65_536)
    """Pieces that a batch runs in, one by one, with the whole batch's gradient; batch_size must be a multiple of it."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    ema: float | None = pydantic.Field(None, gt=0, lt=1)
    """Decay of the exponential moving average of the weights, which is then what is evaluated and kept as best."""
    clip: float | None = pydantic.Field(None, gt=0)
    """Largest gradient norm over the whole model."""
    evaluations: int = pydantic.Field(4, ge=0, le=100_000)
    """How often the val split is scored, spread evenly; the last one is at the end."""
    probe: Probe | None = None
    """What the weights are worth as another recipe's `init`: its scores are logged beside those of the val split."""
    log_every: int = pydantic.Field(10, gt=0, le=MOST_STEPS)
    save_minutes: float = pydantic.Field(5.0, gt=0, le=1e7)
    """checkpoints/last.pt is written this often, at every evaluation and when interrupted."""
    seed: int = pydantic.Field(0, ge=0, lt=2**63)

    @property
    def restarted(self) -> bool:
        """Whether a finished run was given more steps (engine/run_folder.py)."""
        return any(step == before for (_, before), (step, _) in zip(self.retimed, self.retimed[1:], strict=False))

    @pydantic.model_validator(mode="after")
    def _one_length(self) -> "Train":
        if sum(v is not None for v in (self.epochs, self.steps, self.minutes)) != 1:
            raise ValueError("set exactly one of epochs, steps, minutes (the others null)")
        if self.retimed and (self.retimed != sorted(self.retimed) or any(s > t or s < 0 for s, t in self.retimed)):
            raise ValueError("retimed holds pairs of a step and of steps in all, in order of steps")
        if self.retimed and self.retimed[-1][1] != self.steps:
            raise ValueError(
                f"retimed ends at {self.retimed[-1][1]} steps, and train.steps is {self.steps}: set retimed to []"
            )
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}")
        return self


class Eval(Settings):
    split: str = "val"
    max_detections: int = pydantic.Field(100, gt=0, le=100_000)
    batch_size: int = pydantic.Field(1, gt=0, le=65_536)

    @pydantic.field_validator("split")
    @classmethod
    def _plain_split(cls, value: str) -> str:
        return plain(value)  # of the files that hold its predictions


class Hardware(Settings):
    device: str = "auto"
    """auto | cpu | cuda | cuda:N | mps"""
    devices: int = pydantic.Field(1, gt=0, le=1024)
    """Devices of each machine; each gets a process and `train.batch_size` images a step."""
    nodes: int = pydantic.Field(1, gt=0, le=65_536)
    """Machines; above 1 the command is started on each with torchrun (see docs/train.md)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    workers: int = pydantic.Field(2, ge=0, le=512)
    threads: int | None = pydantic.Field(None, gt=0, le=1024)
    """CPU threads of the training process; null is torch's own choice."""
    compile: bool = False
    """torch.compile of the model's backbone in training steps; needs inputs of one size, on a CPU a C++ compiler."""

    @property
    def processes(self) -> int:
        """One a device."""
        return self.devices * self.nodes

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
    init: Place | None = None
    train: Train = Train(epochs=1)
    eval: Eval = Eval()
    hardware: Hardware = Hardware()
    expect: dict[str, Expect] = {}

    _path: Path | None = pydantic.PrivateAttr(None)
    _written_root: str | None = pydantic.PrivateAttr(None)  # data.root in the file, where it was found elsewhere

    @pydantic.field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        return plain(value)  # of the run folder

    @property
    def path(self) -> Path | None:
        return self._path

    @property
    def primary(self) -> str:
        """The metric that decides which checkpoint is best."""
        return TASKS[self.task].primary

    @pydantic.model_validator(mode="after")
    def _model_has_name(self) -> "Recipe":
        if not isinstance(self.model.get("name"), str):
            raise ValueError("model.name is missing")
        self.model = old_names.translate(self.model)
        model_numbers.check(self.model)
        return self

    @classmethod
    def load(
        cls, path: str | Path, overrides: dict[str, Any] | None = None, *, data: str | Path | None = None
    ) -> "Recipe":
        """Read a recipe by path or shipped name, merge what it `extends`, apply overrides ({"train.epochs": 3}).

        data: a prepared dataset to train on in place of the recipe's own; the run is then called after its folder. What
        belongs to the recipe's dataset (its split file, its expected scores) is left out with a warning, here and where
        an override of `data.root` is another dataset.

        Raises UsageError that lists every problem: unknown keys with the nearest valid one, wrong types, wrong values.
        """
        file = find_recipe(path)
        out, overrides = read_recipe(file), dict(overrides or {})
        if data is not None:
            overrides["data.root"] = str(own_data.needs_folder(data))
            if not (file.parent / "environment.json").is_file():  # a run's recipe keeps the run's name
                overrides.setdefault("name", f"{Path(data).resolve().name}-{file.stem}")
        removed = own_data.leave_out(out, overrides, file)
        if removed:
            root = overrides["data.root"]
            warnings.warn(f"{path} is used on {root}: left out {', '.join(removed)} of its own dataset", stacklevel=2)
        for key, value in overrides.items():
            put(out, key, value)
        recipe = cls.parse(out, str(file), file, flags=list(overrides))
        if "data.root" not in overrides:  # a flag's path is meant from the working folder
            recipe.find_data()
        return recipe

    @classmethod
    def parse(cls, data: dict[str, Any], where: str, path: Path | None = None, flags: Sequence[str] = ()) -> "Recipe":
        """Validate plain data. `where` names the file in errors; `flags` are the keys that came from `--set`."""
        try:
            recipe = cls.model_validate(data)
        except pydantic.ValidationError as error:
            raise UsageError(f"{where}: " + "; ".join(_explanations(error.errors(), flags))) from error
        recipe._path = path
        return recipe

    def find_data(self) -> None:
        """Look for a relative `data.root` around the recipe's file, and say so where it is taken from there."""
        root = own_data.find_root(self.data.root, self._path)
        if root != self.data.root:
            warnings.warn(f"{self._path}: data.root {self.data.root} is taken from {root}", stacklevel=3)
            self._written_root, self.data.root = self.data.root, root

    @contextlib.contextmanager
    def blamed(self, section: str) -> Iterator[None]:
        """Inside, errors about settings of `section` name the file that they stand in."""
        try:
            yield
        except SegcliError as error:
            if self._path is None or not str(error).startswith(f"{section}."):
                raise
            raise type(error)(f"{self._path}: {error}", hint=error.hint) from error

    def resolve(self, name: str) -> Path:
        """A file that the recipe names: absolute, beside the recipe, or in the working folder."""
        beside = self._path.parent / name if self._path else Path(name)
        return beside if beside.exists() else Path(name)

    def to_yaml(self, file: Path | None = None) -> str:
        """The recipe as a file; reading that file gives an equal recipe. file: where it is written; its own keeps
        `data.root` as it stands there, so that a run and its data can be moved together."""
        out = self.model_dump(mode="json")
        if self._written_root is not None and file is not None and file == self._path:
            out["data"]["root"] = self._written_root
        return yaml.safe_dump(out, sort_keys=False, allow_unicode=True)


def schema() -> dict[str, Any]:
    """JSON Schema of a recipe file, for editors. Nothing is required: what `extends` names may provide it."""
    out = Recipe.model_json_schema()
    extends = {
        "type": "string",
        "description": "Another recipe: a file beside this one or a shipped name; its keys hold where this is silent.",
    }
    out["properties"] = {"extends": extends, **out["properties"]}
    for part in (out, *out["$defs"].values()):
        part.pop("required", None)
    return out


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
        return f"{place}: expected a number or a pair of numbers, not {error['input']!r:.200}"
    message = error["msg"].removeprefix("Value error, ").removesuffix(f" or instance of {place.split('.')[-1].title()}")
    message = message.replace("valid dictionary", "mapping of keys to values")
    shown = "" if error["type"] == "value_error" else f", not {error['input']!r:.200}"
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

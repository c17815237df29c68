"""A short program beside each exported file that runs it without segcli."""

from pathlib import Path

from segcli.core.exported_files import Target

HEAD = '''"""Runs {file} on an image: python {file}.py IMAGE. Needs {needs}."""

import json
import sys
from pathlib import Path

import numpy as np
{imports}
from PIL import Image, ImageOps

if len(sys.argv) != 2:
    sys.exit(__doc__)
file = Path(__file__).with_suffix("")
image = np.asarray(ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB"))
'''
RUN: dict[Target, tuple[str, str, str]] = {  # what is needed, imports, how the file is run
    "onnx": (
        "onnxruntime, numpy and pillow",
        "import onnxruntime",
        """session = onnxruntime.InferenceSession(str(file))
classes = json.loads(session.get_modelmeta().custom_metadata_map["segcli"])["classes"]
found = dict(zip([output.name for output in session.get_outputs()], session.run(None, {"image": image})))
""",
    ),
    "openvino": (
        "openvino, numpy and pillow",
        "import openvino",
        """model = openvino.Core().read_model(file)
classes = json.loads(model.get_rt_info("segcli").astype(str))["classes"]
results = openvino.compile_model(model, "CPU")([image]).items()
found = {name: value for output, value in results for name in output.names}
""",
    ),
    "torch": (
        "torch, torchvision, numpy and pillow",
        "import torch\nimport torchvision  # its operators",
        """extra = {"segcli.json": ""}
program = torch.export.load(file, extra_files=extra)  # it unpickles: only for files that you trust
classes = json.loads(extra["segcli.json"])["classes"]
with torch.inference_mode():
    found = {name: value.numpy() for name, value in program.module()(torch.from_numpy(image.copy())).items()}
""",
    ),
}
OBJECTS = """for box, label, score in zip(found["boxes"], found["labels"], found["scores"]):
    if score >= 0.5:
        print(f"{classes[label]} {score:.2f}", *box.round(1))
print((found["scores"] >= 0.5).sum(), "of", len(found["scores"]), "detections have a score of at least 0.5")
"""
SEGMENTS = """for number, (label, score) in enumerate(zip(found["segment_labels"], found["segment_scores"]), 1):
    print(f"{classes[label]} {score:.2f}", (found["panoptic"] == number).sum(), "pixels")
"""
LABELS = """for label, pixels in zip(*np.unique(found["semantic"], return_counts=True)):
    print(classes[label], pixels, "pixels")
"""


def text(target: Target, file: Path, outputs: list[str]) -> str:
    """The program for a file with these outputs."""
    needs, imports, run = RUN[target]
    shown = [(OBJECTS, "boxes"), (SEGMENTS, "panoptic"), (LABELS, "semantic")]
    return (
        HEAD.format(file=file.name, needs=needs, imports=imports) + run + "".join(t for t, n in shown if n in outputs)
    )

"""One self-contained HTML page: data, style, script and plotly inside, nothing loaded from anywhere."""

import json
import math
from importlib import resources
from typing import Any

import plotly.offline

import segcli

SCRIPTS = ("report_pictures.js", "report.js")  # the last one draws
SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="segcli {version}">
<title>segcli compare</title>
<style>{style}</style>
</head>
<body>
<noscript><p>This report needs JavaScript. All of it is in this file; nothing is loaded from elsewhere.</p></noscript>
<main id="report"></main>
<script type="application/json" id="data">{data}</script>
<script>{plotly}</script>
<script>{script}</script>
</body>
</html>
"""


def page(data: dict[str, Any]) -> str:
    """The report of `data` (see `compare.report.write_report`) as HTML text."""
    folder = resources.files("segcli.drawing")
    text = json.dumps(_finite({**data, "version": segcli.__version__}), ensure_ascii=False, separators=(",", ":"))
    return SHELL.format(
        version=segcli.__version__,
        style=(folder / "report.css").read_text(encoding="utf-8"),
        data=text.replace("<", "\\u003c"),  # a name may hold </script>
        plotly=plotly.offline.get_plotlyjs(),
        script="\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS),
    )


def _finite(value: Any) -> Any:
    """nan and inf are no JSON: null."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

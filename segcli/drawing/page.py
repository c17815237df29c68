"""One self-contained HTML page: data, style, script and plotly inside, nothing loaded from anywhere."""

import json
from collections.abc import Mapping
from importlib import resources

import plotly.offline

import segcli
from segcli.core.formatting import finite

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


def page(data: Mapping[str, object]) -> str:
    """The report of `data` (see `compare.report.write_report`) as HTML text."""
    folder = resources.files("segcli.drawing")
    text = json.dumps(finite({**data, "version": segcli.__version__}), ensure_ascii=False, separators=(",", ":"))
    return SHELL.format(
        version=segcli.__version__,
        style=(folder / "report.css").read_text(encoding="utf-8"),
        data=text.replace("<", "\\u003c"),  # a name may hold </script>
        plotly=plotly.offline.get_plotlyjs(),
        script="\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS),
    )

"""One self-contained HTML page: data, style and scripts inside, nothing loaded from anywhere."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources

import segcli
from segcli.core.formatting import finite

SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="segcli {version}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<noscript><p>This page needs JavaScript. All of it is in this file; nothing is loaded from elsewhere.</p></noscript>
<main id="report"></main>
<script type="application/json" id="data">{data}</script>
{scripts}
</body>
</html>
"""


def page(data: Mapping[str, object], *, title: str, scripts: Sequence[str], with_plotly: bool = False) -> str:
    """HTML text. data: what the scripts, files of this folder, show; the last one draws. with_plotly: with that
    library, which takes a second to start and comes after them."""
    folder = resources.files("segcli.drawing")
    text = json.dumps(finite({**data, "version": segcli.__version__}), ensure_ascii=False, separators=(",", ":"))
    parts = ["\n".join((folder / name).read_text(encoding="utf-8") for name in scripts)]
    if with_plotly:
        import plotly.offline

        parts.append(plotly.offline.get_plotlyjs())
    return SHELL.format(
        version=segcli.__version__,
        title=escape(title),
        style=(folder / "report.css").read_text(encoding="utf-8"),
        data=text.replace("<", "\\u003c"),  # a name may hold </script>
        scripts="\n".join(f"<script>{part}</script>" for part in parts),
    )

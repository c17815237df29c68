"""XML read safely: plain elements alone, whatever the encoding.

A document type can declare entities that multiply to gigabytes, or that stand for other files. The parser itself
refuses them, so that it makes no difference how the text is encoded. Elements inside one another are counted: code that
walks through them would be exhausted by a million.
"""

from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from segcli.core.errors import DataError, SegcliError
from segcli.core.files import DEEPEST, read_bytes


class _Refused(ValueError):
    """What is not read, as a sentence."""


def read_xml(path: Path, *, error: type[SegcliError] = DataError) -> ElementTree.Element:
    """The root element of an XML file. Raises `error` for a document type, for more than DEEPEST elements inside one
    another, and for what is no XML."""
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise _Refused(f"more than {DEEPEST} elements inside one another")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise _Refused("declares a document type or entities, which are not read")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(read_bytes(path, error=error), True)
    except _Refused as problem:
        raise error(f"{path}: {problem}") from None
    except (expat.ExpatError, ValueError, LookupError) as problem:
        raise error(f"{path}: not valid XML: {problem}") from problem
    return builder.close()

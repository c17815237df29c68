"""Mesh files as people have them: polygons, open, inverted and doubled faces, and what is refused by name."""

import json
import pickle
import struct

import numpy as np
import pytest
import trimesh

from segcli.core.errors import DataError
from segcli.meshes import files
from segcli.meshes.files import obj_text, read_mesh
from segcli.meshes.shape import shape

QUAD_CUBE = "".join(f"v {x} {y} {z}\n" for x in (0, 1) for y in (0, 1) for z in (0, 1))
QUAD_CUBE += "f 1 2 4 3\nf 5 7 8 6\nf 1 5 6 2\nf 3 4 8 7\nf 1 3 7 5\nf 2 6 8 4\n"


def written(tmp_path, text, name="a.obj"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_polygons_become_triangles_and_doubled_vertices_one(tmp_path):
    cube = read_mesh(written(tmp_path, QUAD_CUBE))
    assert (len(cube.vertices), len(cube.faces)) == (8, 12)
    box = trimesh.creation.box()
    soup = box.vertices[box.faces].reshape(-1, 3)  # each face has corners of its own
    read = read_mesh(written(tmp_path, obj_text(soup, np.arange(len(soup)).reshape(-1, 3))))
    assert (len(read.vertices), len(read.faces)) == (8, 12)
    flat = QUAD_CUBE + "f 1 1 2\nf 1 2 1\n"
    assert len(read_mesh(written(tmp_path, flat)).faces) == 12


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no faces|is no mesh"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\n", "has no faces|is no mesh"),
        ("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "no face has an area"),
        ("v 0 0 0\nv 1 0 nan\nv 0 1 0\nf 1 2 3\n", "not finite|is no mesh"),
        ("v 0 0 0\nf 1 2 9\n", "is no mesh|names vertex"),
        ("\x00\x01binary", "has no faces|is no mesh"),
    ],
)
def test_what_is_no_mesh_is_refused_by_name(tmp_path, text, said):
    with pytest.raises(DataError, match=f"a.obj: .*({said})"):
        read_mesh(written(tmp_path, text))


def test_no_other_file_is_opened(tmp_path):
    """A GLB whose triangle lies in a file beside it, as GLTF files have it."""
    (tmp_path / "beside.bin").write_bytes(np.eye(3, dtype="<f4").tobytes())
    accessor = {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3", "min": [0] * 3, "max": [1] * 3}
    tree = {"asset": {"version": "2.0"}, "buffers": [{"byteLength": 36, "uri": "beside.bin"}]}
    tree |= {"bufferViews": [{"buffer": 0, "byteLength": 36}], "accessors": [accessor], "scene": 0}
    tree |= {"meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}], "nodes": [{"mesh": 0}]}
    text = json.dumps(tree | {"scenes": [{"nodes": [0]}]}).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text), len(text), b"JSON")
    (tmp_path / "a.glb").write_bytes(head + text)
    with pytest.raises(DataError, match=r"a\.glb: is no mesh: it names another file, beside\.bin"):
        read_mesh(tmp_path / "a.glb")


def test_other_suffixes_and_very_many_faces_are_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no mesh file that is read"):
        read_mesh(written(tmp_path, QUAD_CUBE, "a.txt"))
    monkeypatch.setattr(files, "MOST_FACES", 5)
    with pytest.raises(DataError, match="has 12 faces, more than 5"):
        read_mesh(written(tmp_path, QUAD_CUBE))


def test_a_shape_is_centred_its_longest_edge_is_one_and_it_travels_as_its_path(tmp_path):
    tall = trimesh.creation.box((1.0, 4.0, 2.0))
    one = shape(written(tmp_path, obj_text(tall.vertices + 7, tall.faces)))
    assert np.ptp(one.vertices, 0) == pytest.approx([0.25, 1, 0.5])
    assert one.vertices * one.size + one.centre == pytest.approx(read_mesh(one.path).vertices, abs=1e-5)
    assert pickle.loads(pickle.dumps(one)) is one
    assert len(pickle.dumps(one)) < 1000
    assert one.voxels.mean() == pytest.approx(0.125, rel=0.15)
    written(tmp_path, QUAD_CUBE)  # another file of that name is another shape
    assert shape(one.path).size == 1

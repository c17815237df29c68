"""Puppets: charts and joints that are each other's mirror images, labels on the figures, the same for the same seed."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from segcli.commands.prepare import prepare
from segcli.core.dataset_info import DatasetInfo
from segcli.data.dataset import Dataset
from segcli.doctor.self_test import self_test
from segcli.fields.densepose import DensePose
from segcli.fields.keypoints import Keypoints
from segcli.sources.synthetic import puppets
from segcli.sources.synthetic._figure import COARSE, JOINTS, MIRROR, MIRROR_COARSE, figure

BOTH = {"densepose": DensePose, "keypoints": Keypoints}


class Middle:
    """A generator that draws the middle of each range: its figure stands symmetric."""

    def uniform(self, low, high):
        return (low + high) / 2


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return prepare("puppets", tmp_path_factory.mktemp("puppets") / "p", settings={"train": 3, "val": 2, "size": 128})


def test_a_mirrored_figure_has_the_charts_u_v_and_joints_that_the_tables_say():
    one = figure(Middle())
    centres, uv = one.vertices[one.faces].mean(1), one.uv.mean(1)
    at = cKDTree(centres).query(centres * [-1, 1, 1])[1]
    assert np.abs(centres[at] * [-1, 1, 1] - centres).max() < 0.02
    right = one.chart[at] == np.array(MIRROR)[one.chart - 1]
    assert right.mean() > 0.97  # neck and torso, hands and arms share places
    there = np.stack([1 - uv[:, 0], uv[:, 1]], 1)[right]
    assert np.median(np.abs(uv[at][right] - there)) < 0.01
    assert np.quantile(np.abs(uv[at][right] - there), 0.95) < 0.1
    assert set(one.chart) == set(range(1, 25))
    assert one.uv.min() >= 0
    assert one.uv.max() <= 1
    swapped = [0, *(k + 1 if k % 2 else k - 1 for k in range(1, 13))]
    assert np.abs(one.joints[swapped] * [-1, 1, 1] - one.joints).max() < 1e-9
    mirrored = [MIRROR_COARSE[COARSE[chart] - 1] for chart in range(1, 25)]
    assert mirrored == [COARSE[MIRROR[chart - 1]] for chart in range(1, 25)]


def test_points_lie_on_the_figures_and_agree_with_the_coarse_parts(root):
    dataset = Dataset(root, fields=BOTH)
    agree = []
    for i in range(len(dataset)):
        objects = dataset.target(i).instances
        field = DensePose.of(objects)
        for k in range(len(objects)):
            x, y, chart = field.points[k][:, :3].T
            assert objects.mask(k)[y.long(), x.long()].all()
            part = field.coarse_at(k, field.points[k][:, :2])
            agree += (part == torch.tensor(COARSE)[chart.long()]).tolist()
            assert len(x) > 50
        points = Keypoints.of(objects).points
        seen = points[points[..., 2] == 2]
        assert len(seen) > 4 * len(objects)
        assert dataset.info.categories[0].keypoints == JOINTS
    assert np.mean(agree) > 0.95


def test_the_labels_pass_the_self_test_and_flip(root):
    scores, failed = self_test(root)
    assert failed == []
    assert scores["val/keypoints_AP"] == pytest.approx(1)
    declared = DatasetInfo.load(root).declared["densepose"]
    assert declared["mirror_uv"] == "1-u"
    field = DensePose.of(Dataset(root, "val", fields=BOTH).target(0).instances)
    assert torch.allclose(field.flip(128).flip(128).points[0], field.points[0], atol=1e-4)


def test_an_image_depends_on_seed_split_and_number_alone():
    first, again = (puppets.build(train=count, val=1, size=96).splits["train"][0] for count in (1, 4))
    assert puppets.record(first) == puppets.record(again)

"""The package itself shows its public names, and nothing else."""

import segcli


def test_dir_shows_the_public_names():
    assert dir(segcli) == sorted([*segcli.__all__, "__version__"])
    assert all(getattr(segcli, name) for name in dir(segcli))

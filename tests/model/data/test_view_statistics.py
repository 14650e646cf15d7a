"""What each camera's pictures look like in training, from a packed dataset."""

import numpy as np

from model.data.packed import PackedDataset
from model.data.view_statistics import thumbnail, view_key, view_statistics
from tests.model.data.demonstrations import pack_memory


def test_the_statistics_are_those_of_the_training_pictures_by_camera(tmp_path):
    pack_memory(tmp_path)
    packed = PackedDataset.open(tmp_path)
    found = view_statistics(packed)
    assert set(found) == {view_key(camera) for camera in packed.meta.cameras}
    batch = packed.batch(packed.rows(), 1)
    for view, camera in enumerate(packed.meta.cameras):
        pictures = batch["images"][batch["image_mask"][:, view], view]
        expected = np.stack([thumbnail(picture).ravel() for picture in pictures])
        statistics = found[view_key(camera)]
        assert statistics.count == len(expected)
        np.testing.assert_allclose(statistics.mean, expected.mean(0), atol=1e-3)
        np.testing.assert_allclose(statistics.std, expected.std(0), atol=1e-3)


def test_a_sample_is_spread_over_the_dataset_and_repeats(tmp_path):
    pack_memory(tmp_path)
    packed = PackedDataset.open(tmp_path)
    first, second = view_statistics(packed, samples=5), view_statistics(packed, samples=5)
    assert first == second and {one.count for one in first.values()} == {5}

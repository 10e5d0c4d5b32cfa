"""What Linux says of a processor, as two of them say it."""

import pytest
import tensorflow as tf

from keras_densenet import processor
from keras_densenet.devices.devices import Devices
from keras_densenet.training.screen import device_line

AMD = (
    "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu fma avx2\n\n"
    "processor\t: 1\n"
)
INTEL = (
    "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Processor\n"
    "flags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16\n\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd\n\n"


@pytest.mark.parametrize(
    ("cpuinfo", "lanes", "has_amx", "name"),
    [
        (AMD, 8, False, "AMD EPYC"),
        (INTEL, 16, True, "Intel(R) Xeon(R) Processor"),
        (ARM, 8, False, None),
        (None, 8, False, None),
    ],
)
def test_what_it_can_do(tmp_path, monkeypatch, cpuinfo, lanes, has_amx, name):
    path = tmp_path / "cpuinfo"
    if cpuinfo:
        path.write_text(cpuinfo)
    monkeypatch.setattr(processor, "_CPUINFO", path)
    processor._cpuinfo.cache_clear()
    try:
        assert processor.vector_lanes() == lanes
        assert ("amx_bf16" in processor.flags()) is has_amx
        assert processor.multiplies_bfloat16() is has_amx
        if name:
            assert processor.name() == name
    finally:
        processor._cpuinfo.cache_clear()


@pytest.mark.parametrize(
    ("flag", "precision", "said"),
    [
        ("avx512_bf16", "32-true", True),
        ("amx_bf16", "32-true", True),
        ("avx512f", "32-true", False),
        ("avx512_bf16", "bf16-mixed", False),
    ],
)
def test_the_device_line_says_what_would_be_faster(monkeypatch, flag, precision, said):
    monkeypatch.setattr(processor, "flags", lambda: frozenset({"avx2", flag}))
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda _: [])
    line = device_line(Devices(None, precision), 64, 19)
    assert line.startswith(f"one device, 1 replica, {precision}, global batch 64, 19 ")
    assert line.endswith("; bf16-mixed is faster on this processor") is said

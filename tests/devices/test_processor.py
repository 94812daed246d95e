"""bf16 products are taken where the processor has units for them; int8 ones that overflow are known."""

from types import SimpleNamespace

import jax
import pytest

from exaranker.devices import processor


@pytest.mark.parametrize(
    ("line", "has"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16 sha_ni", True),
        ("flags\t\t: fpu avx2 amx_bf16 amx_tile", True),
        ("Features\t: fp asimd i8mm bf16 dgh", True),
        ("flags\t\t: fpu avx2 avx512f avx512_bitalg", False),
        ("processor\t: 0", False),
    ],
)
def test_flags_are_read_as_linux_writes_them(tmp_path, line, has):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: any\n{line}\n")
    assert processor.multiplies_bf16(tmp_path / "cpuinfo") == has


@pytest.mark.parametrize(
    ("line", "overflows"),
    [
        ("flags\t\t: fpu sse2 avx2 fma", True),
        ("flags\t\t: fpu sse2 avx2 avx_vnni", False),
        ("flags\t\t: fpu sse2 avx2 avx512f avx512_vnni", False),
        ("Features\t: fp asimd", False),
        ("processor\t: 0", False),
    ],
)
def test_int8_overflows_on_x86_without_vnni(tmp_path, line, overflows):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert processor.overflows_in_int8(tmp_path / "cpuinfo") == overflows


def test_without_a_file_there_are_none(tmp_path):
    assert not processor.multiplies_bf16(tmp_path / "cpuinfo")


def test_what_would_be_emulated_is_computed_in_float32(monkeypatch):
    accelerator = SimpleNamespace(platform="tpu")
    for has, on_this_cpu in ((False, "float32"), (True, "bfloat16")):
        monkeypatch.setattr(processor, "multiplies_bf16", lambda has=has: has)
        assert processor.fitting_dtype(jax.devices()[0], "bfloat16") == on_this_cpu
        assert processor.fitting_dtype(accelerator, "bfloat16") == "bfloat16"


@pytest.mark.parametrize(
    ("plugin", "units", "emulated"), [(False, False, True), (False, True, False), (True, False, False)]
)
def test_bf16_is_emulated_without_units_where_jax_has_no_accelerator(plugin, units, emulated, monkeypatch):
    monkeypatch.setattr(processor, "has_plugin", lambda: plugin)
    monkeypatch.setattr(processor, "multiplies_bf16", lambda: units)
    assert processor.emulates_bf16() is emulated

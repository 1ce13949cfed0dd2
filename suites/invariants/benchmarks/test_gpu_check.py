"""What `make gpu-check` does can be tried without a GPU: the comparisons, the measuring and the report."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.kernel_parity import MODELS, UnusedKernel, model_parities, operator_parities
from benchmarks.throughput import PEERS, cut, measured
from models.layers import kernels
from models.layers.kernels import CHUNK_SCAN, KERNELS
from suites.support.kernel_contracts import CONTRACTS
from zoo.cards import load_zoo
from zoo.shapes import configuration_of, shape

PAPER = load_zoo("paper")
CPU = "cpu"


@pytest.fixture
def contracts(monkeypatch):
    """Kernels that do what the real ones promise, on any device; replaceable one by one."""
    functions = dict(CONTRACTS)
    monkeypatch.setattr(kernels, "fitting", lambda kernel, *_: None if kernels._is_plain() else functions[kernel])
    return functions


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_right_kernel_passes_and_a_wrong_one_fails(kernel, contracts):
    """The comparisons of an operator hold for a kernel that keeps its promise, and fail for one that is 3% off."""
    assert all(parity.holds for parity in operator_parities(kernel, CPU))

    def wrong(*arguments, **named):
        result = CONTRACTS[kernel](*arguments, **named)
        return tuple(1.03 * part for part in result) if isinstance(result, tuple) else 1.03 * result

    contracts[kernel] = wrong
    assert not next(operator_parities(kernel, CPU)).holds


def test_a_kernel_that_is_not_used_is_no_success():
    """A comparison that ran on the plain path is an error, not a success."""
    with pytest.raises(UnusedKernel, match="mamba_chunk_scan_combined was not used"):
        list(operator_parities(CHUNK_SCAN, CPU))


def test_a_model_on_a_wrong_kernel_fails(contracts):
    """The comparison of whole models holds on right kernels and fails on a scan that forgets its first state."""
    assert next(model_parities("Mamba2", CPU)).holds

    def forgetful(*arguments, initial_states, **named):
        return CONTRACTS[CHUNK_SCAN](*arguments, initial_states=torch.zeros_like(initial_states), **named)

    contracts[CHUNK_SCAN] = forgetful
    assert not next(model_parities("Mamba2", CPU)).holds


@pytest.mark.parametrize("card", ["mamba2", "m2a", "sl", "rwkv6", "rg"])
def test_throughput_is_measured(card, monkeypatch):
    """A few narrow layers of each kind are made, read and written to the end, ours and transformers' own."""
    configuration = cut(configuration_of(str(PAPER.models[card].hub)), 3)
    narrow = {"d_model": 64, "hidden_size": 64, "lru_width": 64, "attention_hidden_size": 64, "intermediate_size": 128}
    narrow |= {"vocab_size": 96, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    configuration |= {name: value for name, value in narrow.items() if name in configuration}
    for name, value in (("configuration_of", lambda hub: configuration), ("DECODED", 3), ("REPEATS", 1)):
        monkeypatch.setattr(f"benchmarks.throughput.{name}", value)
    for implementation in ("longwatch", "transformers") if card in PEERS else ("longwatch",):
        found = list(measured(PAPER.models[card], implementation, CPU, [8, 16], 3, lambda: 1.0))
        assert [(each.length, each.rows, each.implementation) for each in found] == [
            (8, 2, implementation),
            (16, 2, implementation),
        ]
        assert all(min(each.read, each.written, each.share) > 0 for each in found)
    out_of_time = measured(PAPER.models[card], "longwatch", CPU, [8], 3, lambda: 0.0)
    assert list(out_of_time) == ["8: no time is left"]


def test_operations_are_those_of_the_layers():
    """The operations counted for a token are twice the weights without the embedding, and attention's pairs."""
    from benchmarks.throughput import operations_of
    from zoo.shapes import made

    for card, embeddings, attention in (
        ("mamba2", 50288 * 2560, 0),
        ("sl", 2 * 32000 * 2560, 4 * 32 * 2560 * 1000 * 1001 // 2),
        ("rg", 256000 * 2560, 4 * 8 * 2560 * 1000 * 1001 // 2),
    ):
        configuration = configuration_of(str(PAPER.models[card].hub))
        model = made(PAPER.models[card].family, configuration)
        expected = 2 * (shape(PAPER.models[card]).parameters - embeddings) * 1000 + attention
        assert operations_of(model, PAPER.models[card].family, configuration, 1000) == pytest.approx(expected, rel=1e-9)


def test_without_cuda_each_check_is_skipped_with_its_reason(monkeypatch, tmp_path, capsys):
    """Without a GPU the whole run ends well, says of each check that it needs CUDA, and writes a report where asked."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main(["--out", str(tmp_path)]) == 0
    (report,) = tmp_path.glob("*-gpu.json")
    checks = json.loads(report.read_text(encoding="utf-8"))["checks"]
    assert {(check["outcome"], check["detail"]) for check in checks} == {("skipped", "needs CUDA")}
    assert len(checks) == len(KERNELS) + 2 * len(MODELS) + 1 + len(gpu_check.CARDS) + len(PEERS)
    shown = capsys.readouterr().out
    assert all(check["name"] in shown for check in checks)
    assert all(check["name"] in report.with_suffix(".md").read_text(encoding="utf-8") for check in checks)


def test_a_failed_check_is_the_exit_status(monkeypatch, tmp_path):
    """A check that fails makes the exit status 1, after all others have run."""
    failed = gpu_check.Check("kernel", "failed", "off")
    monkeypatch.setattr(gpu_check, "parity_checks", lambda device: iter([failed]))
    assert gpu_check.main(["--device", "cpu", "--out", str(tmp_path)]) == 1
    assert "| pocket zoo | skipped |" in next(tmp_path.glob("*.md")).read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [["--lengths", "1k"], ["--layers", "0"], ["--device", "cuda:0"]])
def test_bad_options_are_refused(arguments, monkeypatch, capsys):
    """An option that cannot be met is refused by its name."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu_check.main(arguments)
    assert arguments[0] in capsys.readouterr().err.splitlines()[-1]

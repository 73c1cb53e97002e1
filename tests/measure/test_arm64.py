"""LiteRT's Arm kernels under QEMU: counts, comparison with this machine, and what goes wrong."""

import json
import re
import shutil
import subprocess

import arm64 as fetching
import numpy as np
import pytest
from tiny_files import tiny_files

from edgeq_lib.files import EdgeqError, write_json
from edgeq_lib.measure import arm64, arm64_guest

INT8 = {"dtype": np.int8, "quantization": (0.5, 0)}
FLOAT = {"dtype": np.float32, "quantization": (0.0, 0)}
UNAVAILABLE = arm64.available()


def log(*spans, label=arm64_guest.START):
    """Markers as the plugin writes them: empty spans of 40, then the given ones."""
    total, lines = 1000, []
    empty = [(arm64_guest.EMPTY, 42), (arm64_guest.EMPTY, 40)]
    for kind, span in [*empty, *((label, span) for span in spans)]:
        lines += [f"marker {kind} {total}", f"marker {arm64_guest.STOP} {total + span}"]
        total += span + 777
    return "\n".join(lines) + "\n"


def test_instructions_of_an_inference_are_those_between_its_markers_less_the_markers():
    assert arm64.parse_log(log(940, 840)) == [900, 800]
    assert arm64.parse_log("another line\n" + log(940)) == [900]


@pytest.mark.parametrize(
    "text", ["", log(), log(940).rsplit("marker", 1)[0], log(940, label=arm64_guest.STOP)]
)
def test_a_log_without_whole_pairs_is_refused(text):
    with pytest.raises(arm64.Failed, match="markers"):
        arm64.parse_log(text)


def test_the_processor_that_the_guest_sees_is_the_core_asked_for():
    text = arm64.cpuinfo(arm64.CORES["cortex-a76"])
    assert text.count("processor\t:") == 2
    assert text.count("CPU part\t: 0xd0b\n") == 2 and "asimddp" in text
    assert "asimddp" not in arm64.cpuinfo(arm64.CORES["cortex-a72"])


def test_integer_outputs_agree_within_one_step():
    here = np.array([[10, 20, 30], [9, 7, 8], [1, 2, 3]], np.int8)
    one_off = here[:2] + np.array([[1, -1, 0], [0, 1, 1]], np.int8)
    same = arm64.compare(one_off, here, INT8)
    assert same["agrees"] and same["remark"] is None
    assert (same["images"], same["difference"], same["unit"]) == (2, 1, "steps")
    assert same["top1_agreement"] == 100
    far = here.copy()
    far[1] = [7, 9, 8]
    other = arm64.compare(far, here, INT8)
    assert not other["agrees"] and "2 steps on 3 images" in other["remark"]
    assert other["top1_agreement"] == pytest.approx(100 * 2 / 3)


def test_steps_do_not_wrap_around():
    extremes = np.array([[-128, 127]], np.int8)
    assert arm64.compare(extremes, -1 - extremes, INT8)["difference"] == 255


def test_float_outputs_agree_within_a_share_of_the_largest():
    here = np.array([[8.0, 1.0]], np.float32)
    assert arm64.compare(here + np.float32(0.004), here, FLOAT)["agrees"]
    assert not arm64.compare(here + np.float32(0.04), here, FLOAT)["agrees"]
    broken = arm64.compare(here * np.float32("nan"), here, FLOAT)
    assert not broken["agrees"] and "NaN" in broken["remark"]
    json.dumps(broken, allow_nan=False)


def test_what_is_missing_is_said_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEQ_ARM64", str(tmp_path / "arm64"))
    assert "`make arm64`" in arm64.available()
    with pytest.raises(EdgeqError, match="make arm64"):
        arm64.run({}, {}, "cortex-a76")
    with pytest.raises(EdgeqError, match="make arm64"):
        arm64.measure({}, {})
    versions = {"packages": {"ai-edge-litert": "0.0.1"}, "qemu": "7.2"}
    write_json(tmp_path / "arm64" / arm64.RECORD, versions)
    assert "0.0.1" in arm64.available()
    monkeypatch.setattr(arm64.importlib.metadata, "version", lambda name: "0.0.1")
    monkeypatch.setattr(arm64.shutil, "which", lambda name: None)
    assert "C compiler" in arm64.available()
    monkeypatch.setattr(arm64.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert arm64.available() is None


@pytest.fixture
def fake_qemu(tmp_path, monkeypatch):
    """Puts a shell script in QEMU's place; its words after `-c` are the script's own."""
    monkeypatch.setenv("EDGEQ_ARM64", str(tmp_path / "arm64"))
    monkeypatch.setattr(arm64, "available", lambda: None)
    monkeypatch.setattr(arm64, "_compile", lambda scratch: scratch / "count.so")
    return lambda script: monkeypatch.setattr(
        arm64, "qemu_command", lambda root: ["sh", "-c", script, "sh"]
    )


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("kill -SEGV $$", "brings an emulated cortex-a72 down .SIGSEGV."),
        ("echo first >&2; echo 'no such op' >&2; exit 1", "does not run .* .no such op."),
    ],
)
def test_a_crash_names_the_file_and_the_others_go_on(tmp_path, fake_qemu, script, words):
    fake_qemu(f'case "$*" in *bad.tflite*) {script};; esac; exit 3')
    files = {name: tmp_path / f"{name}.tflite" for name in ("bad", "other")}
    records = arm64.run(files, dict.fromkeys(files, np.zeros((3, 2))), "cortex-a72")
    assert re.match("bad " + words, records["bad"]["why"])
    assert records["bad"]["outputs"] is None and records["bad"]["instructions"] is None
    assert records["other"]["why"].startswith("other does not run")


def test_a_guest_that_hangs_is_ended(tmp_path, fake_qemu):
    fake_qemu("exec sleep 60")
    files = {"slow": tmp_path / "slow.tflite"}
    records = arm64.run(files, {"slow": np.zeros((3, 2))}, "cortex-a53", seconds=-59.9)
    assert "slow did not end within 0.2 s" in records["slow"]["why"]


def test_records_hold_ratios_to_the_baseline_and_why_there_are_none(tmp_path, monkeypatch):
    (tmp_path / "int8.tflite").write_bytes(tiny_files()["int8"])
    (tmp_path / "float32.tflite").write_bytes(tiny_files()["float32"])
    files = {name: tmp_path / f"{name}.tflite" for name in ("float32", "int8")}
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    counts = {"float32": 1000, "int8": 400, "it": 9}

    def run(some, inputs, cpu, *_, kernels=None):
        """Reference kernels as here; the fast ones of int8 two steps off."""
        done = {}
        for name, path in some.items():
            outputs = arm64.reference_outputs(path, inputs[name])[0]
            outputs = outputs + 2 if kernels is None and name == "int8" else outputs
            done[name] = {"outputs": outputs, "instructions": counts[name], "why": None}
        if cpu == "cortex-a53" and "int8" in done:
            done["int8"] = dict.fromkeys(done["int8"]) | {"why": "int8 brings it down"}
        return done

    monkeypatch.setattr(arm64, "available", lambda: None)
    monkeypatch.setattr(arm64, "run", run)
    write_json(tmp_path / arm64.RECORD, {"packages": {"numpy": "2"}, "qemu": "7.2"})
    monkeypatch.setenv("EDGEQ_ARM64", str(tmp_path))
    record = arm64.measure(files, dict.fromkeys(files, images), ["cortex-a53", "cortex-a72"])
    assert record["int8"]["instructions_ratio"] == {"cortex-a53": None, "cortex-a72": 0.4}
    assert record["int8"]["why"] == {"cortex-a53": "int8 brings it down"}
    assert record["int8"]["outputs"]["cortex-a53"] is None
    fast = record["int8"]["outputs"]["cortex-a72"]
    assert (fast["images"], fast["agrees"]) == (4, False) and fast["difference"] in (2, 3)
    slow = record["int8"]["reference"]
    assert (slow["images"], slow["difference"], slow["agrees"]) == (3, 0, True)
    assert record["float32"]["outputs"]["cortex-a53"]["agrees"]
    assert record["float32"]["reference"] is None
    assert record["int8"]["versions"] == {"numpy": "2", "qemu": "7.2"}
    json.dumps(record, allow_nan=False)


def test_the_table_shows_ratio_and_count_and_the_text_names_who_differs():
    same = arm64.compare(np.zeros((2, 3), np.int8), np.zeros((2, 3), np.int8), INT8)
    other = arm64.compare(np.eye(2, 3, dtype=np.int8) * 4, np.zeros((2, 3), np.int8), INT8)
    records = {
        "float32": {
            "instructions": {"cortex-a53": 119_261_671, "cortex-a72": 1_224_915},
            "instructions_ratio": {"cortex-a53": 1.0, "cortex-a72": None},
            "outputs": {"cortex-a53": same, "cortex-a72": same},
            "reference": None,
            "why": {},
        },
        "int8": {
            "instructions": {"cortex-a53": 41_691_057, "cortex-a72": None},
            "instructions_ratio": {"cortex-a53": 0.3496, "cortex-a72": None},
            "outputs": {"cortex-a53": other, "cortex-a72": None},
            "reference": same,
            "why": {"cortex-a72": "int8 brings an emulated cortex-a72 down (SIGSEGV)"},
        },
    }
    assert arm64.table(records) == [
        {"variant": "float32", "cortex-a53": "1.00 (119 M)", "cortex-a72": "1.22 M"},
        {"variant": "int8", "cortex-a53": "0.35 (41.7 M)", "cortex-a72": "none"},
    ]
    text = arm64.agreement(records)
    assert text.startswith("2 of 3 comparisons")
    assert "- int8 on cortex-a53: " in text and "up to 4 steps" in text and "50.0 %" in text
    assert "- int8: LiteRT's slow reference kernels give the same on both, within 0 steps" in text
    assert "- int8 brings an emulated cortex-a72 down (SIGSEGV)" in text


def test_plugin_and_guest_agree_on_the_marker():
    source = arm64.COUNTER.read_text()
    assert int(re.search(r"MARKER = (\d+)", source)[1]) == arm64_guest.MARKER


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler (cc)")
def test_the_plugin_compiles_without_a_warning(tmp_path):
    options = ["-Wall", "-Werror", "-O2", "-shared", "-fPIC"]
    target = str(tmp_path / "count.so")
    subprocess.run(["cc", *options, "-o", target, str(arm64.COUNTER)], check=True)


def test_the_locks_own_versions_and_hashes_are_fetched():
    wanted = fetching.locked(fetching.LOCK.read_text())
    assert set(wanted) == set(fetching.WHEELS)
    assert all(entry.count("--hash=sha256:") > 3 for entry in wanted.values())
    assert all("==" not in entry.split("==", 1)[1] for entry in wanted.values())
    assert re.fullmatch(r"\d+\.\d+\.\d+", fetching.versions(wanted)["ai-edge-litert"])
    with pytest.raises(EdgeqError, match="make lock"):
        fetching.locked("pandas==1\n")


def test_fetching_leaves_a_complete_folder_and_a_foreign_one_alone(tmp_path, monkeypatch, capsys):
    def no_network(*_):
        raise AssertionError("it fetches")

    monkeypatch.setattr(fetching, "run", no_network)
    monkeypatch.setenv("EDGEQ_ARM64", str(tmp_path))
    (tmp_path / "letters").write_text("dear")
    with pytest.raises(EdgeqError, match="something else"):
        fetching.main()
    packages = fetching.versions(fetching.locked(fetching.LOCK.read_text()))
    write_json(tmp_path / arm64.RECORD, {"packages": packages, "qemu": "7.2"})
    fetching.main()
    assert "is complete" in capsys.readouterr().out
    assert (tmp_path / "letters").exists()


def test_fetching_says_what_this_machine_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching.shutil, "which", lambda name: None if "apt" in name else name)
    with pytest.raises(EdgeqError, match="needs apt-get"):
        fetching.check_tools()
    monkeypatch.setattr(fetching.shutil, "which", lambda name: name)
    monkeypatch.setattr(fetching, "KEYRING", tmp_path / "keyring.gpg")
    with pytest.raises(EdgeqError, match="debian-archive-keyring"):
        fetching.check_tools()


@pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))
def test_arm_kernels_give_this_machines_outputs_and_the_same_count_again(tmp_path):
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    files = {}
    for name in ("float32", "int8"):
        files[name] = tmp_path / f"{name}.tflite"
        files[name].write_bytes(tiny_files()[name])
    first, again = (
        arm64.measure(files, dict.fromkeys(files, images), ["cortex-a76"]) for _ in range(2)
    )
    for name in files:
        assert first[name]["outputs"]["cortex-a76"]["agrees"], first[name]
        assert first[name]["outputs"]["cortex-a76"]["images"] == 3
        assert first[name]["instructions"] == again[name]["instructions"]
    assert 10_000 < first["int8"]["instructions"]["cortex-a76"] < 1_000_000
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(tiny_files()["int8"][:200])
    records = arm64.run({"broken": broken}, {"broken": images}, "cortex-a72")
    assert records["broken"]["why"].startswith("broken ")

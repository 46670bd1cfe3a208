"""The profile file: what is read, what is written, and what is refused, with the line in every message."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profile_toy import conv, linear, profile, row

from h4hc.backends.profiles import columns, header
from h4hc.backends.profiles.kernels import canonical, kernel_of, row_of
from h4hc.backends.profiles.reader import parse_profile
from h4hc.backends.profiles.table import (
    Measurement,
    Places,
    Profile,
    ProfileMemory,
    read_profile,
    write_profile,
)
from h4hc.backends.profiles.writer import profile_text
from h4hc.errors import ProfileError
from h4hc.ir.workload import Conv, Elementwise, Generic, Kernel, MatMul, Move, Precision, Reduction

EXAMPLE = """\
# h4hc-profile: 1   (numbers are illustrative)
# device: ACME-AR1 rev B ; accelerator: npu ; config: 512MAC_2x2x16 ; clock_hz: 800000000 ; vdd_v: 0.65 ; temp_c: -5
# compiler: vendorcc 3.1 ; runtime: bare-metal ; method: PMU (npu_active) ; date: 2025-05-01 ; repeats: 50 ; cold_cache: 0
# mem: name=sram,bytes=1048576,bw_bytes_per_s=2.56e10 ; name=dram,bytes=0,kind=lpddr4x ; clock_ref: npu
id,node_name,onnx_op,granularity,n,in_c,in_h,in_w,out_c,out_h,out_w,kh,kw,sh,sw,dh,dw,groups,gemm_b,gemm_m,gemm_k,gemm_n,act,dtype_act,dtype_wt,loc_in,cycles_total,time_us,energy_uj,rd_bytes_dram,status,comment
1,/conv,Conv,op,1,32,112,112,32,112,112,3,3,1,1,1,1,32,,,,,relu6,int8,int8,sram,78214,97.8,11.2,,ok,
2,/attn,MatMul,op,,,,,,,,,,,,,,,3,196,64,196,none,int8,,sram,35180,,6.1,5,ok,"dynamic, both"
3,block0,*,block,1,192,14,14,192,14,14,,,,,,,,,,,,,int8,int8,sram,1626671,2033.3,,,ok,
"""
HEADING = "# h4hc-profile: 1\n# device: d ; compiler: c ; clock_hz: 1e8 ; macs_per_cycle: 100\n"


def read(text: str) -> Profile:
    return parse_profile(text.encode(), "acme.csv")


def table(columns: str, *lines: str) -> str:
    return HEADING + "\n".join([columns, *lines]) + "\n"


def test_the_documented_example() -> None:
    found = read(EXAMPLE)
    assert (found.device, found.compiler, found.clock) == ("ACME-AR1 rev B", "vendorcc 3.1", 8e8)
    assert (found.celsius, found.volts, found.repeats, found.cold_cache) == (-5, 0.65, 50, False)
    assert found.memories == (
        ProfileMemory("sram", 1 << 20, 2.56e10),
        ProfileMemory("dram", 0, None, "lpddr4x"),
    )
    first, second, third = found.rows
    assert first.kernel == Kernel(Conv(1, 32, 32, 112, 112, 112, 112, 3, 3, groups=32), ("relu",))
    assert (first.seconds, first.joules, first.cycles, first.line) == (97.8e-6, 11.2e-6, 78214, 6)
    assert second.kernel == Kernel(MatMul(3, 196, 64, 196, dynamic=True))
    assert second.seconds == 35180 / 8e8  # from the cycles
    assert (second.traffic, second.comment) == ((("dram", 5, 0),), "dynamic, both")
    assert (third.kernel, third.granularity, third.node) == (None, "block", "block0")


def test_the_peak_follows_from_the_configuration() -> None:
    assert read(EXAMPLE).peak == 512 * 8e8


@pytest.mark.parametrize(
    ("kernel", "columns"),
    [
        (
            Kernel(Conv(1, 3, 8, 10, 20, 5, 9, 1, 7, 2, 3, 1, 2)),
            {"kh": 1, "kw": 7, "sh": 2, "sw": 3, "dw": 2},
        ),
        (Kernel(Conv(1, 3, 8, 10, 10, 20, 20, 2, 2, transposed=True)), {"onnx_op": "ConvTranspose"}),
        (
            Kernel(MatMul(2, 3, 4, 5)),
            {"gemm_b": 2, "gemm_m": 3, "gemm_k": 4, "gemm_n": 5, "dtype_wt": "int8"},
        ),
        (Kernel(Elementwise(7, 1, "lut")), {"onnx_op": "Lut", "out_c": 7, "inputs": 1}),
        (Kernel(Reduction("softmax", 1, 64, 3, 1, 3, 1)), {"onnx_op": "Softmax", "in_c": 64, "out_h": 3}),
        (Kernel(Move("transpose", 6, 6, 2)), {"onnx_op": "Transpose", "run": 2}),
        (Kernel(Generic("Conv", 6, 8, 99)), {"onnx_op": "Conv", "operations": 99}),
        (Kernel(MatMul(1, 1, 1, 1), (), Precision(16, 4)), {"dtype_act": "int16", "dtype_wt": "int4"}),
    ],
)
def test_columns_of_kernels(kernel: Kernel, columns: dict[str, object]) -> None:
    found = row_of(kernel)
    assert found | columns == found
    assert kernel_of(found) == kernel


def test_what_a_measurement_cannot_tell_apart() -> None:
    fused = Kernel(MatMul(1, 2, 3, 4), ("bias", "batch_norm", "relu"), entropy=3.5)
    assert canonical(fused) == Kernel(MatMul(1, 2, 3, 4), ("relu",))
    late = Kernel(MatMul(1, 2, 3, 4), ("relu", "bias"))
    assert canonical(late) == late
    assert canonical(Kernel(Elementwise(4, 2, "add"), ("bias",))).epilogue == ("bias",)


def test_activations_by_any_name() -> None:
    base = {"onnx_op": "Gemm", "gemm_m": 1, "gemm_k": 2, "gemm_n": 3, "dtype_wt": "uint8"}
    assert kernel_of({**base, "act": "ReLU6"}).epilogue == ("relu",)
    assert kernel_of({**base, "act": "gelu"}).epilogue == ("lut",)
    assert kernel_of({**base, "act": "relu", "epilogue": "add relu"}).epilogue == ("add", "relu")
    with pytest.raises(ValueError, match="act wobble is unknown"):
        kernel_of({**base, "act": "wobble"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("onnx_op,time_us\nConv,1\n", "line 1: is not an h4hc profile"),
        ("# h4hc-profile: 2\n", "line 1: version 2 is not supported"),
        ("# h4hc-profile: 1\n# device: d\na\n", "compiler is missing"),
        ("# h4hc-profile: 1\n# devise: d\n", "line 2: unknown key devise; did you mean device"),
        ("# h4hc-profile: 1\n# device: d ; device: e\n", "line 2: device is given twice"),
        ("# h4hc-profile: 1\n# device: d ; clock_hz: -5\n", "line 2: clock_hz '-5' is not a plain number"),
        ("# h4hc-profile: 1\n# device: d ; clock_hz: nan\n", "line 2: clock_hz 'nan' is not a plain number"),
        (HEADING, "line 3: there is no heading"),
        (table("onnx_op,time_us,time_ms"), "line 3: unknown column 'time_ms'; did you mean time_us"),
        (table("onnx_op,time_us,time_us"), "line 3: column time_us is there twice"),
        (table("time_us"), "line 3: column onnx_op is missing"),
        (table("onnx_op"), "line 3: neither column time_us nor cycles_total"),
        (table("onnx_op,time_us,rd_bytes_ddr"), "line 3: column rd_bytes_ddr is of memory ddr"),
        (table("onnx_op,time_us,gemm_m,gemm_k,gemm_n", "Gemm,1,2"), "line 4: 3 cells where the heading has 5"),
        (table("onnx_op,time_us,gemm_m,gemm_k,gemm_n", "Gemm,nan,1,1,1"), "line 4: time_us 'nan' is not a plain"),
        (table("onnx_op,time_us,gemm_m,gemm_k,gemm_n", "Gemm,-1,1,1,1"), "line 4: time_us '-1' is not a plain"),
        (table("onnx_op,time_us,gemm_m,gemm_k,gemm_n", "Gemm,inf,1,1,1"), "line 4: time_us 'inf' is not a plain"),
        (table("onnx_op,time_us,gemm_m,gemm_k,gemm_n", "Gemm,0,1,1,1"), "line 4: a time of zero was not measured"),
        (table("onnx_op,time_us,gemm_m,gemm_k,gemm_n", "Gemm,,1,1,1"), "line 4: neither time_us nor cycles_total"),
        (table("onnx_op,time_us,gemm_m,gemm_k,gemm_n", "Gemm,1,1.5,1,1"), "line 4: gemm_m '1.5' is not a whole"),
        (table("onnx_op,time_us,gemm_m,gemm_k,gemm_n", "Gemm,1,9999999999,1,1"), "line 4: gemm_m .* is too large"),
        (table("onnx_op,time_us,gemm_m,gemm_k,gemm_n", "Gemm,1,0,1,1"), "line 4: gemm_m must be at least 1"),
        (table("onnx_op,time_us,gemm_m", "Gemm,1,1"), "line 4: gemm_k is missing"),
        (table("onnx_op,time_us,energy_uj", "Relu,1,0"), "line 4: energy_uj must be greater than zero"),
        (table("onnx_op,time_us", "Wobble,1"), "line 4: onnx_op Wobble is not known by its shapes"),
        (table("onnx_op,time_us,granularity", "Relu,1,layer"), "line 4: granularity layer is unknown"),
        (table("onnx_op,time_us,in_c,status", "Relu,1,4,great"), "line 4: status great is unknown"),
        (table("onnx_op,time_us,in_c,comment", 'Relu,1,4,"a\nb"'), "line 5: comment holds control characters"),
        (table("onnx_op,time_us,in_c,comment", 'Relu,1,4,"a'), "line 4: is not valid CSV"),
        (table("onnx_op,time_us,in_c,baseline", "Relu,1,4,7"), "line 4: baseline 7 is not the id of another"),
        (table("onnx_op,time_us,cycles_total,in_c", "Relu,10,500,4"), "line 4: .* do not agree at 100 MHz"),
        (table("onnx_op,time_us,in_c,dtype_act", "Relu,1,4,int7"), "line 4: dtype_act int7 is unknown"),
        (table("onnx_op,time_us", "Relu,1\0"), "holds zero bytes"),
        ("# h4hc-profile: 1\n# mem: name=a ; name=a\n", "line 2: mem: a is there twice"),
        ("# h4hc-profile: 1\n# mem: size=3\n", "line 2: mem: 'size=3' is none of"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=f"acme.csv:? {message}"):
        read(text)


def test_cycles_below_the_peak_are_refused() -> None:
    columns = "onnx_op,cycles_total,gemm_m,gemm_k,gemm_n,dtype_wt"
    assert read(table(columns, "Gemm,10000,100,100,100,int8")).rows[0].seconds == 1e-4
    with pytest.raises(ProfileError, match=r"acme.csv line 4: 90 us for 1000000 MACs is faster .*\(100 us\)"):
        read(table(columns, "Gemm,9000,100,100,100,int8"))


def test_what_spreadsheets_do_to_a_profile() -> None:
    table = '"# h4hc-profile: 1",,\r\n# Device: d ; compiler: c,,\r\n"# mem: name=a,bytes=5",,\r\n'
    found = parse_profile(f"\ufeff{table}onnx_op,time_us,in_c\r\nRelu,1.5,4\r\n,,\r\n".encode(), "x")
    assert (found.device, found.memories) == ("d", (ProfileMemory("a", 5),))
    assert [(row.seconds, row.line) for row in found.rows] == [(1.5e-6, 5)]
    with pytest.raises(
        ProfileError, match="line 4: unknown column 'onnx_op;time_us;in_c'; separate columns by"
    ):
        parse_profile(f"{table}onnx_op;time_us;in_c\r\n".encode(), "x")


def test_operators_that_did_not_run_need_no_time() -> None:
    found = read(table("onnx_op,time_us,in_c,status", "Relu,,4,unsupported")).rows[0]
    assert (found.status, found.seconds) == ("unsupported", 0.0)


def test_hostile_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProfileError, match="cannot be read"):
        read_profile(tmp_path / "none.csv")
    with pytest.raises(ProfileError, match="is not a regular file"):
        read_profile("/dev/zero")
    with pytest.raises(ProfileError, match="is not UTF-8"):
        parse_profile(b"\xff\xfe\x00", "x")
    with pytest.raises(ProfileError, match="line 4: is longer than"):
        read(table("onnx_op,time_us,in_c,comment", "Relu,1,4," + "x" * 30_000))
    monkeypatch.setattr("h4hc.backends.profiles.reader.MAX_BYTES", 100)
    (tmp_path / "big.csv").write_bytes(b"#" * 101)
    with pytest.raises(ProfileError, match="is larger than"):
        read_profile(tmp_path / "big.csv")
    monkeypatch.setattr("h4hc.backends.profiles.reader.MAX_ROWS", 1)
    with pytest.raises(ProfileError, match="line 5: more than 1 rows"):
        read(table("onnx_op,time_us,in_c", "Relu,1,4", "Relu,1,4"))


def test_the_documentation_names_every_column_and_key() -> None:
    text = (Path(__file__).parents[3] / "docs" / "profiles.md").read_text(encoding="utf-8")
    for name in (*columns.written(["<memory>"]), *header.KEYS, "mem", "source"):
        assert f"`{name}`" in text, name
    example = text.partition("A minimal profile:\n\n```\n")[2].partition("```")[0]
    assert [row.seconds for row in read(example).rows] == [16250 / 8e8, 338000 / 8e8]


def test_writing_replaces_the_file_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "acme.csv"
    write_profile(profile(row(linear(), 1e-4, onnx_op="MatMul")), path)
    before = path.read_bytes()
    with pytest.raises(ProfileError, match="semicolons"):
        write_profile(profile(row(linear(), 1e-4), method="a;b"), path)
    with pytest.raises(ProfileError, match="comment"):
        write_profile(profile(row(linear(), 1e-4, comment="a\nb")), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["acme.csv"]


ELEMENTWISE = ("add", "sub", "mul", "div", "min", "max", "relu", "lut", "other")
MOVES = ("view", "transpose", "concat", "split", "slice", "pad", "resize", "gather", "expand")
sizes = st.integers(1, 4096)
positive = st.floats(1e-9, 1e3)
words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), max_size=20)
workloads = st.one_of(
    st.builds(
        lambda g, c, o, rest, t: Conv(1, g * c, g * o, *rest, g, t),
        st.integers(1, 8), sizes, sizes, st.tuples(*[sizes] * 10), st.booleans(),
    ),
    st.builds(MatMul, sizes, sizes, sizes, sizes, st.booleans()),
    st.builds(Elementwise, sizes, st.integers(1, 3), st.sampled_from(ELEMENTWISE)),
    st.builds(Reduction, st.sampled_from(["max_pool", "average_pool", "mean", "max", "sum"]), *[sizes] * 8),
    st.builds(Reduction, st.sampled_from(["softmax", "layer_norm", "l2_norm"]), *[sizes] * 6),
    st.builds(Move, st.sampled_from(MOVES), st.integers(0, 9), st.integers(0, 9), sizes),
    st.builds(Generic, st.sampled_from(["Einsum", "Conv", "TopK"]), st.integers(0, 9), sizes, sizes),
)  # fmt: skip
notes = words.filter(lambda text: ";" not in text and not text.endswith(","))
steps = st.lists(st.sampled_from(["bias", "batch_norm", "relu", "lut", "add", "mul", "sub"]), max_size=4)
precisions = st.builds(Precision, st.sampled_from([4, 8, 16, 32]), st.sampled_from([2, 4, 8, 16, 32]))
kernels = st.builds(Kernel, workloads, steps.map(tuple), precisions)
rows = st.builds(
    Measurement,
    kernel=kernels.map(canonical),
    seconds=positive,
    seconds_std=st.none() | positive,
    joules=st.none() | positive,
    status=st.sampled_from(["ok", "fallback"]),
    model=words,
    node=words,
    mode=words,
    placement=st.builds(Places, words, words, words),
    cycles_active=st.none() | positive,
    weight_bytes=st.none() | sizes,
    encoded_bytes=st.none() | sizes,
    traffic=st.sampled_from([(), (("sram", 5, 7),)]),
    overlapped_with=words,
    identifier=words,
    comment=words,
).map(lambda r: replace(r, onnx_op=str(row_of(r.kernel)["onnx_op"]) if r.kernel else ""))


@settings(max_examples=60, deadline=None)
@given(kernels)
def test_kernels_survive_the_columns(kernel: Kernel) -> None:
    assert kernel_of(row_of(kernel)) == canonical(kernel)


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, max_size=4), st.none() | positive, notes)
def test_profiles_survive_the_file(found: list[Measurement], volts: float | None, note: str) -> None:
    memories = (ProfileMemory("sram", 7, 1.5e9, "sram"),)
    original = Profile("d", "c", tuple(found), volts=volts, note=note, memories=memories, clock=2.5e8)
    text = profile_text(original)
    assert parse_profile(text.encode(), "x") == original
    assert profile_text(parse_profile(text.encode(), "x")) == text


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_profile_or_an_error_of_one_line(text: str) -> None:
    data = (HEADING + "onnx_op,time_us,in_c\n" + text).encode("utf-8", "surrogatepass")
    try:
        parse_profile(data, "x")
    except ProfileError as error:
        assert str(error).isprintable()


def test_a_convolution_of_the_toy_reads_back(tmp_path: Path) -> None:
    write_profile(profile(row(conv(), 1e-3)), tmp_path / "a.csv")
    assert read_profile(tmp_path / "a.csv").rows[0].kernel == canonical(conv())

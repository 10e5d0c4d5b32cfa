"""Files that were made to run code, or to take all memory and time; and damaged ones.

What they do is what the test cases of picklescan and fickling do; none of it is theirs.
"""

import contextlib
import copyreg
import faulthandler
import io
import pickle
import random
import re
import struct
import sys
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from keras_densenet.weights import WeightsError, inert_pickle, state_dict
from keras_densenet.weights.describing import described
from keras_densenet.weights.inert_pickle import Global, Inert
from keras_densenet.weights.loading import read_state_dict
from keras_densenet.weights.names import weights_by_name
from keras_densenet.weights.pytorch_files import MAGIC_NUMBER, read_pth
from keras_densenet.weights.state_dict import of_pytorch, state_dicts

NUMBERS = np.arange(4, dtype="float32")
NAME = "features.conv0.weight"


# --- pickles, operation by operation -----------------------------------------------


def text(letters):
    raw = letters.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(size):
    raw = size.to_bytes(20, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def named(name):
    module, _, name = name.rpartition(".")
    return f"c{module}\n{name}\n".encode()


def tuple_of(*parts):
    return b"(" + b"".join(parts) + b"t"


def called(name, *arguments):
    return named(name) + tuple_of(*arguments) + b"R"


def entry(name, value, into=b"}"):
    return into + text(name) + value + b"s"


def storage(kind="FloatStorage", key="0"):
    parts = text("storage"), named(f"torch.{kind}"), text(key), text("cpu"), number(4)
    return tuple_of(*parts) + b"Q"


def tensor(numbers=None, offset=0, shape=(2, 2), strides=(2, 1)):
    sizes = (tuple_of(*map(number, numbers)) for numbers in (shape, strides))
    parts = storage() if numbers is None else numbers, number(offset), *sizes
    return called("torch._utils._rebuild_tensor_v2", *parts, b"\x89", b"N")


def module(parts, kind="torch.nn.modules.container.Sequential"):
    """An object of a class, with attributes."""
    return named(kind) + b")\x81}(" + b"".join(parts) + b"ub"


def whole(operations, protocol=4):
    return bytes([0x80, protocol]) + operations + b"."


def archive(content, numbers=None, **options):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as members:
        members.writestr("archive/data.pkl", content)
        members.writestr("archive/data/0", numbers or NUMBERS.tobytes())
    return file.getvalue()


def before_1_6(content, magic=None, numbers=NUMBERS):
    first = [pickle.dumps(MAGIC_NUMBER, 2) if magic is None else magic]
    first += [pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2), content]
    last = pickle.dumps(["0"], 2), struct.pack("<q", numbers.size), numbers.tobytes()
    return b"".join([*first, *last])


FORMATS = [archive, before_1_6]
WEIGHTS = whole(entry(NAME, tensor()), 2)


@pytest.fixture
def reading(tmp_path):
    """Read a file of these bytes, up to the arrays' numbers."""

    def read(content, suffix=".pt"):
        path = tmp_path / f"file{suffix}"
        path.write_bytes(content)
        return read_state_dict(path)

    return read


@pytest.fixture
def unpickling(tmp_path):
    """Read what torch.save would have written, of these operations."""

    def read(operations):
        path = tmp_path / "file.pt"
        path.write_bytes(archive(whole(operations)))
        return read_pth(path)

    return read


# --- code ------------------------------------------------------------------------


def hidden_in_a_frame(operations):
    """A frame that is shorter than the bytes in it, which are operations.

    One reader takes them for bytes, and Python's for operations: see python/cpython's
    issue 154848.
    """
    frame = b"\x95" + struct.pack("<Q", 2) + b"B\7\1\0\0" + b"\0\0"
    first = b"NV" + b"a" * (2**17 - 30) + b"\n0("  # more than is read ahead
    return first + frame + (operations + b"(").ljust(261, b"N") + b"1"


def payloads(path):
    """Ways to make a folder, as Python follows them."""
    folder, mkdir = text(str(path)), named("os.mkdir")
    script = text(f"__import__('os').mkdir({str(path)!r})")
    made = mkdir + folder + b"\x85R"
    mapped = called("builtins.map", mkdir, b"]" + folder + b"a")
    os = called("builtins.__import__", text("os"))
    of_os = called("builtins.getattr", os, text("mkdir"))
    attrgetter = called("operator.attrgetter", text("mkdir"))
    setstate = entry("__setstate__", mkdir)
    ordered = named("collections.OrderedDict") + b")R"
    code = called("builtins.compile", script, text(""), text("exec"))
    command = b"](" + text("mkdir") + folder + b"e"
    return {
        "REDUCE": made,
        "INST": b"(" + folder + b"ios\nmkdir\n",
        "OBJ": b"(" + mkdir + folder + b"o",
        "OBJ and POP": b"(" + mkdir + folder + b"o0N",
        "NEWOBJ": named("builtins.tuple") + mapped + b"\x85\x81",
        "NEWOBJ_EX": named("builtins.tuple") + mapped + b"\x85}\x92",
        "STACK_GLOBAL": text("os") + text("mkdir") + b"\x93" + folder + b"\x85R",
        "names out of the memo": text("os") + b"\x940" + text("mkdir") + b"\x940"
        b"h\0h\1\x93" + folder + b"\x85R",
        "a name with dots": text("pathlib") + text("os.mkdir") + b"\x93"
        + folder + b"\x85R",
        "getattr": of_os + folder + b"\x85R",
        "attrgetter": attrgetter + os + b"\x85R" + folder + b"\x85R",
        "methodcaller": called("operator.methodcaller", text("mkdir"), folder)
        + os + b"\x85R",
        "partial": called("functools.partial", mkdir, folder) + b")R",
        "map": called("builtins.list", mapped),
        "eval": called("builtins.eval", script),
        "exec": called("builtins.exec", code),
        "subprocess": called("subprocess.call", command),
        "a pickle in a pickle": called("pickle.loads", b"C" + bytes([len(made) + 1])
        + made + b"."),
        "BUILD": ordered + setstate + b"b" + folder + b"b",
        "BUILD of slots": ordered + b"N" + setstate + b"\x86b" + folder + b"b",
        "a set": b"\x8f(" + made + b"\x90",
        "an argument": called("argparse.Namespace") + entry("x", made) + b"b",
        "a frame": hidden_in_a_frame(made),
        "the extension registry": b"\x82\xf0" + folder + b"\x85R",
        "the registry in a frame": hidden_in_a_frame(b"\x82\xf0" + folder + b"\x85R"),
        "before the file breaks": made + b"\xff",
        "before the file ends": made + b"X\xff\xff",
    }  # fmt: skip


@pytest.fixture
def registered():
    """A function has a number, and something has asked for it before."""
    copyreg.add_extension("os", "mkdir", 240)
    pickle.loads(b"\x80\x02\x82\xf0.")
    yield
    copyreg.remove_extension("os", "mkdir", 240)
    copyreg.clear_extension_cache()


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("kind", payloads("x"))
def test_nothing_is_run(reading, tmp_path, kind):
    mark = tmp_path / "canary"
    operations = payloads(mark)[kind]
    with contextlib.suppress(Exception):
        pickle.load(io.BytesIO(whole(operations)))  # what Python does
    assert mark.exists() or "frame" in kind  # which newer Pythons refuse
    if mark.exists():
        mark.rmdir()
    weights = entry(NAME, tensor())
    files = [
        *(write(whole(operations)) for write in FORMATS),
        *(write(whole(entry("args", operations, into=weights))) for write in FORMATS),
        before_1_6(WEIGHTS, magic=whole(operations)),
        whole(operations),
        archive(WEIGHTS) + whole(operations),
    ]
    for content in files:
        with contextlib.suppress(WeightsError):
            reading(content)
        assert not mark.exists()


def test_a_file_that_runs_code_still_has_its_weights(reading):
    refused = (
        "the extension registry",
        "before the file breaks",
        "before the file ends",
    )
    for kind, operations in payloads("x").items():
        content = archive(whole(entry("args", operations, entry(NAME, tensor()))))
        if kind in refused:
            with pytest.raises(WeightsError):
                reading(content)
        else:
            assert list(reading(content)) == [NAME], kind


FUNCTIONS = """
__builtin__.eval __builtin__.execfile builtins.breakpoint builtins.input builtins.open
builtins.__import__ sys.exit sys.setprofile os.system posix.system nt.system os.popen
os.execv os.spawnl os.posix_spawn os.remove shutil.rmtree shutil.move socket.socket
socket.create_connection subprocess.run subprocess.Popen subprocess.check_output
multiprocessing.util.spawnv_passfds pty.spawn runpy.run_path runpy._run_code pip.main
ensurepip._run_pip venv.create webbrowser.open antigravity.geohash requests.api.get
urllib.request.urlopen http.client.HTTPSConnection aiohttp.ClientSession smtplib.SMTP
ftplib.FTP imaplib.IMAP4_stream ssl.get_server_certificate linecache.getline
asyncio.unix_events._UnixSubprocessTransport._start bdb.Bdb.run pdb.run pdb.set_trace
timeit.timeit cProfile.run cProfile.runctx profile.Profile.runctx trace.Trace.run
doctest.debug_script code.InteractiveInterpreter.runcode codeop.compile_command
pydoc.locate pydoc.pipepager pkgutil.resolve_name importlib.import_module
importlib.util.spec_from_file_location operator.attrgetter operator.itemgetter
operator.methodcaller _operator.methodcaller functools.partial functools.reduce
types.CodeType types.FunctionType marshal.loads pickle.loads _pickle.load dill.loads
joblib.load cloudpickle.cloudpickle._make_function ctypes.CDLL _io.FileIO io.open
logging.FileHandler logging.config.fileConfig distutils.file_util.write_file
idlelib.pyshell.ModifiedInterpreter.runcode lib2to3.pgen2.grammar.Grammar.loads
uuid._get_command_stdout _aix_support._read_cmd_output _osx_support._read_output
_pyrepl.pager.pipe_pager test.support.script_helper.assert_python_ok
_interpreters.create _xxsubinterpreters.run_string copyreg.add_extension
fickling.hook.remove_hook numpy.load numpy.f2py.crackfortran.getlincoef
numpy.testing._private.utils.runstring torch.load torch.hub.load torch.jit.load
torch.utils.collect_env.run torch.utils.bottleneck.__main__.run_cprofile
torch.utils._config_module.ConfigModule.load_config torch.utils.cpp_extension.load
torch.utils.data.datapipes.utils.decoder.basichandlers torch.storage._load_from_bytes
torch.jit.unsupported_tensor_ops.execWrapper torch._dynamo.guards.GuardBuilder.get
torch._inductor.codecache.compile_file torch.distributed.rpc.rpc_sync
torch.fx.experimental.symbolic_shapes.ShapeEnv.evaluate_guards_expression
keras.saving.load_model keras_densenet.weights.load
""".split()  # noqa: SIM905, a hundred lines


def test_functions_are_nothing_but_names(reading, tmp_path, monkeypatch):
    mark = tmp_path / "imported"
    (tmp_path / "of_a_pickle.py").write_text(f"open({str(mark)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    modules = set(sys.modules)
    for name in [*FUNCTIONS, "of_a_pickle.Class"]:
        with pytest.raises(
            WeightsError, match=f"calls for {re.escape(name)}, which is"
        ):
            reading(archive(whole(called(name, text("x")))))
        with pytest.raises(
            WeightsError, match=f"calls for {re.escape(name)}, which is"
        ):
            reading(archive(whole(named(name))))
    assert not mark.exists()
    assert set(sys.modules) == modules


def test_what_is_read_with_is_not_changed(reading, unpickling):
    """A pickle sets attributes of what it gets: of classes, here, for the next file."""
    for name in (
        *("torch.nn.parameter.Parameter", "torch.Size", "torch.BFloat16Storage"),
        *("torch._utils._rebuild_tensor_v2", "collections.OrderedDict"),
    ):
        for attribute in ("__new__", "__call__", "__defaults__", "__setstate__"):
            slot = b"N" + entry(attribute, named("os.system")) + b"\x86b"
            unpickling(named(name) + slot)
            unpickling(named(name) + entry(attribute, b"K\x01") + b"b")
    changed = tensor() + entry("shape", tuple_of(number(9))) + b"b"
    changed = called("torch.nn.parameter.Parameter", changed)
    (array,) = reading(archive(whole(entry(NAME, changed)))).values()
    np.testing.assert_array_equal(array.T, NUMBERS.reshape(2, 2))


# --- time and memory ---------------------------------------------------------------


def laughs(innermost, layers, close=b"l", times=10):
    """One thing within another, each time ten times: 10 to the power of `layers`."""
    operations = innermost + b"r" + struct.pack("<I", 1000)
    for layer in range(1001, 1001 + layers):
        before = b"j" + struct.pack("<I", layer - 1)
        operations += b"0(" + before * times + close + b"r" + struct.pack("<I", layer)
    return operations


LISTS = laughs(text("lol"), 12)
TUPLES = laughs(text("lol"), 12, b"t")
SIZES = storage(), LISTS, LISTS, LISTS


@pytest.fixture
def ends():
    """End the process after a minute: a walk through tuples cannot be interrupted."""
    faulthandler.dump_traceback_later(60, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.usefixtures("ends")
@pytest.mark.parametrize(
    "operations",
    [
        b"(" * 10 + text("lol") + (b"2" * 9 + b"l") * 10,
        LISTS,
        called("torch.FloatStorage", LISTS),
        called("torch.Size", LISTS),
        called("builtins.list", LISTS),
        called("collections.OrderedDict", b"](" + TUPLES + b"Nta"),
        b"}" + TUPLES + b"Ns",
        b"}(" + TUPLES + b"Nu",
        b"(" + TUPLES + b"Nd",
        b"\x8f(" + TUPLES + b"\x90",
        laughs(text("lol"), 12, b"\x91"),
        named("a.b") + b")\x81" + TUPLES + b"Ns",
        b"}" + b")" + b"\x85" * 10**5 + b"Ns",
        tuple_of(LISTS, b"NNNN") + b"Q",
        tuple_of(text("storage"), named("torch.FloatStorage"), LISTS, b"NN") + b"Q",
        tuple_of(text("storage"), LISTS, b"NNN") + b"Q",
        entry(NAME, called("torch._utils._rebuild_tensor", *SIZES)),
        entry("args", LISTS, into=entry(NAME, LISTS)),
    ],
    ids=[
        *("DUP", "lists", "a type", "a shape", "list()", "keys of Python 2"),
        *("a key", "keys", "DICT", "a set", "frozensets", "a key of an object"),
        *("a deep key", "a kind", "a number of a storage", "a kind of storage"),
        *("a tensor", "no weight"),
    ],
)  # fmt: skip
def test_nothing_is_walked_through(reading, operations):
    """What does, never ends: there are 10 to the power of 12 ways through these."""
    for write in FORMATS:
        with pytest.raises(WeightsError) as error:
            reading(write(whole(operations)))
        assert "lol" not in str(error.value)


def test_keys_are_texts_and_numbers(unpickling):
    nested = b"))\x86" + b"K\1s"
    large = b"\x8b" + struct.pack("<i", 10**4) + b"\x01" * 10**4 + b"K\2s"
    found = unpickling(b"}" + nested + large + b"NK\3s" + text("a") + b"K\4sK\7K\5s")
    assert found == {"a": 4, 7: 5}
    assert unpickling(b"\x8f(" + b"))\x86" + b"\x90") == [((), ())]
    assert unpickling(b"(" + b"))\x86" + b"\x91") == (((), ()),)


def test_arguments_are_not_copied_many_times(unpickling):
    pairs = b"(" + (text("a") + b"N\x86") * 1000 + b"l\x85\x940"
    ordered = named("collections.OrderedDict") + b"\x940"
    assert unpickling(pairs + ordered + b"h\1h\0R") == {"a": None}
    with pytest.raises(WeightsError, match="many dictionaries of one list"):
        unpickling(pairs + ordered + b"(" + b"h\1h\0R" * 10 + b"l")


def test_more_objects_than_anyone_waits_for(unpickling, monkeypatch):
    monkeypatch.setattr(inert_pickle, "MOST_OPERATIONS", 100)
    with pytest.raises(WeightsError, match="more than 100 objects beside its numbers"):
        unpickling(b"(" * 101)
    assert unpickling(b"(" * 97 + b"N") is None


def test_modules_in_each_other(unpickling, monkeypatch):
    """Of 20 modules each has the one before it twice: a million ways through them."""
    monkeypatch.setattr(state_dict, "MOST_VISITED", 10_000)
    leaf = [text("_parameters") + entry("weight", tensor()), text("_modules") + b"}"]
    operations = module(leaf) + b"\x940"
    for layer in range(20):
        twice = entry("b", b"h" + bytes([layer]), entry("a", b"h" + bytes([layer])))
        operations += module([text("_modules") + twice]) + b"\x940"
    few = unpickling(operations + b"h\x03")
    assert len(state_dicts(few)[""].arrays) == 8
    with pytest.raises(WeightsError, match="more than 10,000 entries among which"):
        state_dicts(unpickling(operations + b"h\x14"))
    itself = module([]) + b"\x94" + entry("_modules", entry("a", b"h\0")) + b"b"
    assert state_dicts(unpickling(itself))[""].arrays == {}


def test_norms_that_share_their_variance(unpickling, monkeypatch):
    """It is copied for each of them, where their epsilon is another one than ours."""
    monkeypatch.setattr(state_dict, "MOST_VISITED", 1200)  # 1047 without the copies
    variance = text("_buffers") + entry("running_var", tensor())
    eps = text("eps") + b"G" + struct.pack(">d", 1e-3)
    norm = module([variance, eps, text("_modules") + b"}"]) + b"\x940"
    norms = b"}(" + b"".join(text(str(n)) + b"h\0" for n in range(80)) + b"u"
    operations = norm + module([text("_modules") + norms])
    with pytest.raises(WeightsError, match="more than 1,200 entries among which"):
        state_dicts(unpickling(operations))
    monkeypatch.setattr(state_dict, "MOST_VISITED", 10_000)
    arrays = state_dicts(unpickling(operations))[""].arrays
    np.testing.assert_allclose(arrays["79.running_var"].ravel(), NUMBERS + 0.00099)


def test_a_deep_file_is_looked_into_as_far_as_names_go(unpickling):
    deep = (b"}" + text("state_dict")) * 10_000 + tensor() + b"s" * 10_000
    assert state_dicts(unpickling(deep)) == {}
    inner = entry("inner", entry("b", tensor()))
    two = unpickling(entry("other", inner, entry("outer", entry("a", tensor()))))
    assert list(state_dicts(two)) == ["outer", "other.inner"]


def test_tensors_of_one_storage_take_its_memory_once(reading):
    both = entry("classifier.weight", tensor(strides=(1, 2)), entry(NAME, tensor()))
    for write in FORMATS:
        first, second = reading(write(whole(both))).values()
        assert np.shares_memory(first, second)
        np.testing.assert_array_equal(first, second.T)


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize(
    "claim",
    [
        {"shape": (-2, 2)},
        {"shape": (-2, -2)},
        {"strides": (-2, 1), "offset": 2},
        {"offset": -1},
        {"offset": 1},
        {"offset": 2**64},
        {"shape": (2**62, 2**62), "strides": (0, 0)},
        {"shape": (10**6, 10**6), "strides": (0, 0)},
        {"shape": (2**100,), "strides": (0,)},
        {"strides": (2**63, 2**100)},
        {"shape": (2,)},
        {"shape": (1,) * 65, "strides": (1,) * 65},
        {"shape": (5,), "strides": (1,)},
    ],
    ids=str,
)
def test_a_tensor_that_the_file_has_not(reading, write, claim):
    with pytest.raises(WeightsError, match=r"impossible shape|beyond its numbers"):
        reading(write(whole(entry(NAME, tensor(**claim)))))


@pytest.mark.parametrize("count", [-1, -(2**63), 5, 2**40, 2**63 - 1])
def test_numbers_that_the_file_has_not(reading, count):
    content = before_1_6(WEIGHTS).replace(
        struct.pack("<q", 4), struct.pack("<q", count)
    )
    with pytest.raises(WeightsError, match="cut off"):
        reading(content)


def test_numbers_whose_size_is_not_known(reading):
    """In the format before 1.6 nobody knows where the next ones begin."""
    other = entry("x", tensor(storage("ComplexFloatStorage")))
    with pytest.raises(WeightsError, match=r"numbers of torch\.ComplexFloatStorage"):
        reading(before_1_6(whole(other)))


# --- archives --------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_an_archive_that_lies_about_its_size(reading, method):
    """A megabyte of zeros, which it says are 16 bytes."""
    content = bytearray(archive(WEIGHTS, bytes(2**20), compression=method))
    struct.pack_into("<I", content, content.rindex(b"PK\1\2") + 24, 16)
    with pytest.raises(
        WeightsError, match="the archive is compressed: unpacked it has"
    ):
        reading(bytes(content))


def test_an_archive_whose_members_overlap(reading):
    """A thousand members, which all are the same kilobyte."""
    content = archive(WEIGHTS, bytes(1000))
    begin, end = content.rindex(b"PK\1\2"), content.rindex(b"PK\5\6")
    first = content.index(b"PK\1\2")
    directory = content[first:begin] + content[begin:end] * 1000
    sizes = struct.pack("<4H2IH", 0, 0, 1001, 1001, len(directory), first, 0)
    with pytest.raises(WeightsError, match="less in it than it says"):
        reading(content[:first] + directory + b"PK\5\6" + sizes)


@pytest.mark.parametrize(
    ("place", "form", "value"),
    [
        *((8, "<H", 1 << bit) for bit in (0, 5, 6)),  # encrypted, patched, encrypted
        *((10, "<H", method) for method in (1, 8, 9, 12, 14, 99)),  # how it is packed
        *((6, "<H", version) for version in (64, 255)),
        (16, "<I", 1),  # checksum
        (24, "<I", 2**32 - 1),  # how large it is unpacked
        (42, "<I", 2**31),  # where it begins
        (46, "<B", 0xFF),  # its name
    ],
)
def test_a_directory_that_is_not_true(reading, place, form, value):
    content = bytearray(archive(WEIGHTS))
    for entry_of_directory in re.finditer(b"PK\1\2", bytes(content)):
        begin = entry_of_directory.start()
        struct.pack_into(form, content, begin + place, value)
        if place == 46:
            struct.pack_into("<H", content, begin + 8, 0x800)  # its name is UTF-8
    with pytest.raises(WeightsError, match=r"\.$"):
        reading(bytes(content))


def test_members_that_begin_before_the_file(reading):
    content = bytearray(archive(WEIGHTS))
    struct.pack_into("<I", content, len(content) - 6, 2**20)  # where the directory is
    with pytest.raises(WeightsError, match="a member begins before the file"):
        reading(bytes(content))


@pytest.mark.parametrize("names", [["data.pkl"], ["a/data.pkl", "b/data.pkl"]])
def test_one_pickle_in_a_folder(reading, names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        for name in names:
            members.writestr(name, WEIGHTS)
    with pytest.raises(WeightsError, match=r"has \d files data\.pkl in a folder"):
        reading(file.getvalue())


def test_an_object_array_of_numpy_is_no_weights(reading):
    file = io.BytesIO()
    np.save(file, np.array([{}], object), allow_pickle=True)
    for suffix in (".npy", ".pt", ".h5"):
        with pytest.raises(WeightsError):
            reading(file.getvalue(), suffix)


# --- files of Keras ----------------------------------------------------------------


def hdf5(put):
    file = io.BytesIO()
    with h5py.File(file, "w") as group:
        put(group.create_group("layers"))
    return file.getvalue()


def keras_archive(method):
    """Sixteen megabytes of zeros, which it says are 16 bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as members:
        members.writestr("config.json", "{}")
        members.writestr("model.weights.h5", bytes(2**24))
    content = bytearray(file.getvalue())
    struct.pack_into("<I", content, content.rindex(b"PK\1\2") + 24, 16)
    return bytes(content)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (zipfile.ZIP_DEFLATED, "CRC"),
        (zipfile.ZIP_BZIP2, "would have 16 bytes, from"),
        (zipfile.ZIP_LZMA, "would have 16 bytes, from"),
    ],
)
def test_an_archive_of_keras_that_lies_about_its_size(reading, method, message):
    content = keras_archive(method)
    tracemalloc.start()
    with pytest.raises(WeightsError, match=message):
        reading(content, ".keras")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**22


def test_an_archive_of_keras_that_cannot_be_unpacked(reading):
    content = bytearray(keras_archive(zipfile.ZIP_DEFLATED))
    begin = content.index(b"model.weights.h5") + len("model.weights.h5")
    content[begin : begin + 8] = b"\xff" * 8
    with pytest.raises(WeightsError, match="damaged and cannot be read"):
        reading(bytes(content), ".keras")


@pytest.mark.usefixtures("ends")
def test_groups_that_are_in_each_other_twice(reading):
    """Of 40 groups each has the one before it twice."""

    def put(layers):
        inner = layers.create_group("inner")
        for number in range(40):
            outer = layers.create_group(f"outer{number}")
            outer["a"] = outer["b"] = inner
            inner = outer

    with pytest.raises(
        WeightsError, match=r"outer0/a is no group.*or is in the file twice"
    ):
        reading(hdf5(put), ".h5")


def test_texts_and_references_are_no_weights(reading):
    """Each of a million texts may be one and the same, of a megabyte."""
    for kind in (h5py.string_dtype(), h5py.ref_dtype):
        content = hdf5(lambda layers: layers.create_dataset("a/vars/0", (2,), kind))  # noqa: B023
        with pytest.raises(WeightsError, match="0 is no array of this file"):
            reading(content, ".h5")


def test_an_error_shows_little_of_a_file_of_keras(reading):
    def put(layers):
        for group in ("a", "b"):
            layers.create_dataset(f"{group}/vars/0", (2,), "float32")
            layers[f"{group}/vars"].attrs["name"] = "\x1b[31m" + "a" * 10**4

    with pytest.raises(WeightsError, match="two layers of the name") as error:
        reading(hdf5(put), ".h5")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000


# --- damage ----------------------------------------------------------------------


@pytest.mark.parametrize("write", FORMATS)
def test_a_file_that_is_cut_off_anywhere(reading, write):
    content = write(WEIGHTS)
    assert list(reading(content)) == [NAME]
    for end in range(len(content)):
        with pytest.raises(WeightsError, match=r"\.$"):
            reading(content[:end])


@pytest.mark.parametrize("write", FORMATS)
def test_a_file_in_which_bits_are_wrong(reading, write):
    """Of a damaged file there is an error, or what is left of it."""
    parts = [text("_parameters") + entry("w", tensor()), text("_modules") + b"}"]
    rest = entry("lr", b"K\1", called("argparse.Namespace") + b"}")[:-1] + b"sb"
    operations = entry(
        "model", module(parts), entry("args", rest, entry(NAME, tensor()))
    )
    content = write(whole(operations, 2))
    assert list(reading(content)) == [NAME]
    chance = random.Random(0)
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 2, 8))):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        try:
            reading(bytes(damaged))
        except WeightsError as error:
            assert str(error).isprintable()  # noqa: PT017
            assert len(str(error)) < 1000  # noqa: PT017


@pytest.mark.parametrize(
    "operations",
    [
        entry("features.\x1b[31m" + "a" * 10**5, tensor(), entry(NAME, tensor())),
        entry("state_dict", entry("\n" * 10**5, entry("weight", tensor()))),
        called("a." + "b" * 10**5),
        called("a.\x1b[31m"),
        entry(NAME, called("a." + "b" * 10**5)),
        entry(NAME, tensor(storage(key="7" * 10**5))),
        b"".join([b"}", *(text(n) + entry("conv0.weight", tensor()) + b"s" for n in
        ("a" * 10**5, "b" * 10**5))]),
    ],
    ids=[
        *("a name", "a place", "a class", "a class in colors", "of a weight", "a key"),
        "two places",
    ],
)  # fmt: skip
def test_an_error_shows_little_of_a_file(tmp_path, operations):
    import keras_densenet as kd

    path = tmp_path / "file.pt"
    path.write_bytes(archive(whole(operations)))
    model = kd.DenseNetBC(10, 4, classes=2, input_shape=(8, 8, 3))
    with pytest.raises(WeightsError) as error:
        kd.weights.load(model, path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000


# --- files as others have them -----------------------------------------------------


def test_safetensors_may_begin_as_a_pickle_does(reading):
    """One in 32 does: a file of safetensors begins with the length of its header."""
    header = f'{{"{NAME}":{{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}}}'
    header = header.ljust(0x280).encode()  # 80 02 00 00 00 00 00 00
    content = struct.pack("<Q", len(header)) + header + NUMBERS.tobytes()
    assert list(reading(content)) == [NAME]


def test_safetensors_of_numbers_that_numpy_has_not(reading):
    header = f'{{"{NAME}":{{"dtype":"F8_E5M2","shape":[2,2],"data_offsets":[0,4]}}}}'
    content = struct.pack("<Q", len(header)) + header.encode() + bytes(4)
    with pytest.raises(WeightsError, match=r"NumPy does not have .*model\.float\(\)"):
        reading(content, ".safetensors")


def test_numbers_may_end_as_an_archive_does(reading):
    numbers = np.frombuffer(NUMBERS.tobytes() + b"PK\5\6" + bytes(20), "float32")
    assert list(reading(before_1_6(WEIGHTS, numbers=numbers), ".ckpt")) == [NAME]


def test_a_script_of_torch_jit_is_read_by_its_modules(tmp_path):
    """Its code is compressed, and is not looked at."""
    parts = [text("training") + b"\x89", text("weight") + tensor()]
    inner = module(parts, "__torch__.torch.nn.modules.conv.Conv2d")
    features = module([text("conv0") + inner], "__torch__.torch.nn.Sequential")
    script = module([text("features") + features], "__torch__.models.DenseNet")
    path = tmp_path / "script.ts"
    path.write_bytes(archive(whole(script, 2)))
    with zipfile.ZipFile(path, "a") as members:
        members.writestr(
            "archive/code/__torch__.py", "pass\n" * 1000, zipfile.ZIP_DEFLATED
        )
    assert list(read_state_dict(path)) == [NAME]


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (tensor(storage("QUInt8Storage")), "torch.QUInt8Storage"),
        (called("torch._utils._rebuild_sparse_tensor"), "_rebuild_sparse_tensor"),
        (called("torch._utils._rebuild_meta_tensor_no_storage"), "_no_storage"),
        (called("numpy._core.multiarray._reconstruct"), "multiarray._reconstruct"),
    ],
)
def test_the_kind_of_a_weight_that_is_not_read_is_told(reading, made, kind):
    with pytest.raises(WeightsError, match=f"{NAME} is no array but a .*{kind}"):
        reading(archive(whole(entry("state_dict", entry(NAME, made)))))
    other = entry("x", made, entry(NAME, tensor()))
    assert list(reading(archive(whole(other)))) == [NAME]


def test_a_long_history_is_no_obstacle(unpickling):
    """A loss for each of 20,000 steps, beside the weights."""
    steps = b"".join(number(step) + b"K\1" for step in range(20_000))
    found = unpickling(entry("history", b"}(" + steps + b"u", entry(NAME, tensor())))
    assert list(of_pytorch(found).arrays) == [NAME]


def test_a_classifier_may_have_no_name():
    arrays = {"conv0.weight": np.zeros((8, 3, 7, 7)), "weight": np.eye(8)}
    assert list(of_pytorch(arrays | {"bias": np.zeros(8)}).arrays) == [
        *(NAME, "classifier.weight", "classifier.bias")
    ]


PLAIN = {
    "numbers": [0, -1, 255, 256, 70_000, -(2**31), 2**40, 2**3000, 0.5, -1e300],
    "others": [None, True, False, b"", b"abc", b"x" * 300, bytearray(b"abc")],
    "texts": ["", "a", "\u00e9\u4e2d\U0001f600", "line\nline", "x" * 300, "x" * 70_000],
    "tuples": [(), (1,), (1, 2), (1, (2, 3), 4), (1, 2, 3, 4)],
    "dictionaries": {
        "a": {},
        7: {"b": {"c": [1]}},
        -1: {str(i): i for i in range(2000)},
    },
    "long": list(range(3000)),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_as_python_reads_them(unpickling, protocol):
    plain = dict(PLAIN, twice=[PLAIN["long"], PLAIN["long"]])
    if protocol < 5:
        plain["others"] = plain["others"][:-1]  # a call of bytearray, before it
    if protocol < 3:
        plain["others"] = plain["others"][:3]  # a call of _codecs.encode
    operations = pickle.dumps(plain, protocol).removeprefix(bytes([0x80, protocol]))
    read = unpickling(operations[:-1])
    assert read == plain
    assert read["twice"][0] is read["long"]


def test_what_no_pickler_writes_is_as_python_reads_it(unpickling):
    for operations in (
        b"K\1(0",
        b"K\1(K\x021",
        b"K\1K\x020",
        b"K\x012\x86",
        b"N(K\1K\2d",
    ):
        assert unpickling(operations) == pickle.loads(whole(operations))
    assert unpickling(b"\x8f(K\1K\2\x90") == [1, 2]
    assert unpickling(b"(K\1K\2\x91") == (1, 2)


def test_what_stands_for_an_object_keeps_what_it_was_given(unpickling):
    """Attributes, those of slots, entries; and nothing of what else was done to it."""
    made = named("a.b") + b")\x81" + entry("x", b"K\1") + entry("y", b"K\2") + b"\x86b"
    thing = unpickling(entry("z", b"K\3", into=made + b"(NNe"))
    assert isinstance(thing, Inert)
    assert thing.described == Global("a", "b")
    assert thing.parts == [{"x": 1}, {"y": 2}, {"z": 3}]


def test_a_shape_that_no_layer_has_is_told():
    import keras_densenet as kd

    model = kd.DenseNetBC(10, 4, classes=2, input_shape=(8, 8, 3))
    arrays = {w.name: np.zeros(w.shape, "float32") for w in weights_by_name(model)}
    for name in arrays:
        for shape in ((), (2,), (2, 2), (0, 0, 0, 0)):
            with contextlib.suppress(WeightsError):
                described(arrays | {name: np.zeros(shape, "float32")})

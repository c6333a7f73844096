"""Letting a ``.tflite`` take any batch: litert-torch writes every shape for one example."""

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

TRIED = 3  # examples that a freed file must answer together as it did one by one


def with_free_batch(content: bytes) -> bytes:
    """``content`` with a batch that ``resize_tensor_input`` may change, where its graph allows it.

    Reshapes then take their first size from their input, as most operators do anyway. The batch of
    such a file is -1 in its ``shape_signature``, and one until it is changed. Slices cannot be
    resized, and attention and recurrent layers move examples out of the first dimension: the file
    is tried, and stays as it was if it cannot be resized or answers differently.

    Args:
        content: a file that takes (1, ...) and answers (1, classes), both float32.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    _free(model)
    freed = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    return freed if _answers_alike(content, freed) else content


def _free(model: Any) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    graph = model.subgraphs[0]
    given = graph.tensors[graph.inputs[0]]
    given.shapeSignature = np.array([-1, *given.shape[1:]], np.int32)
    freed: dict[tuple[int, ...], int] = {}
    for operator in graph.operators:
        if flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex) != "RESHAPE":
            continue
        before = graph.tensors[operator.inputs[0]].shape
        after = graph.tensors[operator.outputs[0]].shape
        if [*before[:1]] == [*after[:1]] == [1]:
            sizes = (-1, *map(int, after[1:]))
            if sizes not in freed:
                freed[sizes] = _add_sizes(model, graph.tensors[operator.inputs[1]], sizes)
            operator.inputs[1] = freed[sizes]


def _add_sizes(model: Any, old: Any, sizes: tuple[int, ...]) -> int:
    """The index of a new constant in the main graph, like ``old`` but for its values."""
    new, buffer = copy.copy(old), copy.copy(model.buffers[old.buffer])
    buffer.data = np.frombuffer(np.array(sizes, np.int32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    new.buffer = len(model.buffers) - 1
    model.subgraphs[0].tensors.append(new)
    return len(model.subgraphs[0].tensors) - 1


def _answers_alike(content: bytes, freed: bytes) -> bool:
    from ai_edge_litert.interpreter import Interpreter

    reference = Interpreter(model_content=content, num_threads=1)
    given = reference.get_input_details()[0]
    inputs = np.random.default_rng(0).standard_normal((TRIED, *given["shape"][1:]), np.float32)
    expected = np.concatenate([_answer(reference, one[None]) for one in inputs])
    try:
        found = _answer(Interpreter(model_content=freed, num_threads=1), inputs)
    except (RuntimeError, ValueError):  # it cannot be resized
        return False
    error = 1e-4 * float(np.abs(expected).max())
    return found.shape == expected.shape and bool(np.abs(found - expected).max() <= error)


def _answer(interpreter: Any, batch: NDArray[Any]) -> NDArray[np.float32]:
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, batch.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, batch)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return np.asarray(found, np.float32)

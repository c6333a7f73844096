"""fedlite predict: classify a file with an exported model.

usage: fedlite predict DIR input=FILE

  DIR (or model=)   a run directory, a deployable folder (its student.onnx), or
                    an exported student (.onnx, .tflite, .pte, .mlpackage) with
                    labels.json and preprocessing.json beside it
  input=FILE        an image (png, jpg), an npz (array `inputs`), or a csv (one
                    example per line)

Prints the class names and probabilities of every example in the file.
"""

from fedlite.base.errors import UsageError
from fedlite.base.files import user_path
from fedlite.cli.parse import Arguments

SHOWN = 5  # classes printed for each predicted example


def run(arguments: Arguments) -> int:
    """Print the likeliest classes of every example in a file."""
    from fedlite.serve.predict import predict
    from fedlite.serve.verify import deploy_folder

    arguments.refuse_flags()
    taken = arguments.take("model", "input")
    if "model" in taken:
        arguments.words.append(taken["model"])
    model = arguments.directory()
    arguments.refuse_options(("model", "input"))
    if model is None or "input" not in taken:
        missing = [f"{name}=FILE" for name in ("model", "input") if name not in taken]
        raise UsageError(f"missing option: {' '.join(missing)}")
    for prediction in predict(deploy_folder(model), user_path(taken["input"])):
        likeliest = "  ".join(f"{name} {p:.3f}" for name, p in prediction.probabilities[:SHOWN])
        print(f"{prediction.source}: {likeliest}")
    return 0

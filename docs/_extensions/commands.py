"""Completes what sphinx-click writes: examples are code, and arguments are described."""

# click describes options only; the texts of --help explain the arguments in sentences.
ARGUMENTS = {
    "FOLDER": "Folder of the videos.",
    "INPUTS": "One store, or videos and folders of videos.",
    "MODEL": "File of a fitted classifier, as ``skdejavid fit`` writes it.",
    "STORE": "Folder of a store, as ``skdejavid extract`` writes it.",
}


def write_examples_as_code(app, context, lines):
    """Replace lines that keep their breaks, which are commands, by a block of code."""
    for i in reversed(range(len(lines))):
        if lines[i].startswith("| "):
            lines[i] = f"   {lines[i].removeprefix('| ').strip()}"
            if not lines[i - 1].startswith("| "):
                lines[i:i] = [".. code-block:: sh", ""]


def describe_arguments(app, context, lines):
    """Say what each argument is."""
    name = ""
    for i, line in enumerate(lines):
        if line.startswith(".. option:: "):
            name = line.removeprefix(".. option:: ")
        elif line.strip():
            is_required = line.strip().startswith("Required")
            lines[i] = f"   {'' if is_required else 'Optional. '}{ARGUMENTS[name]}"


def setup(app):
    """Connect both to the events of sphinx-click."""
    app.connect("sphinx-click-process-description", write_examples_as_code)
    app.connect("sphinx-click-process-arguments", describe_arguments)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

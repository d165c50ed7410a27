"""Serves an exported model with onnxruntime, numpy and faiss alone: neither jax nor negflax.

  python -m launch.export --workdir=runs/mine --out=exported --onnx
  python examples/serve/from_onnx.py exported                  # the example of the report
  python examples/serve/from_onnx.py exported '[{"item_id": 17, "dislike": true}]'

Copy it with from_export.py, which reads all other files of the export.
"""

import sys

import numpy as np
import onnxruntime
from from_export import ExportedModel, ExportError, main


class OnnxModel(ExportedModel):
    """As ExportedModel; a history is read event by event."""

    def __init__(self, folder, index=True):
        """Reads and checks the files.

        Raises:
          ExportError: as ExportedModel, or the export has no step.onnx.
        """
        super().__init__(folder, index)
        if "step.onnx" not in self.manifest["files"]:
            raise ExportError(f"{folder} has no step.onnx: export the run with --onnx")
        path = str(self.folder / "step.onnx")
        self.program = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.inputs = [one.name for one in self.program.get_inputs()]
        with np.load(self.folder / "start.npz", allow_pickle=False) as start:
            self.newcomer = start["state"]
            self.start = [start[name] for name in self.inputs[1:]]

    def state(self, events):
        """(state (D,), carry, time of the last event) after a user's whole history."""
        newest, before = self.newest(events)
        state, carry = self.newcomer, self.start
        for codes in newest:
            state, carry = self._next(codes, carry)
        return state, carry, before

    def step(self, event, carry, before_ms=None):
        """(state (D,), carry) one event later; an unknown item changes nothing: None."""
        codes = self.codes(event, before_ms)
        return None if codes is None else self._next(codes, carry)

    def _next(self, codes, carry):
        given = dict(zip(self.inputs, [codes[None], *carry], strict=True))
        states, *carry = self.program.run(None, given)
        return states[0], carry


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:3], reader=OnnxModel))
    except ExportError as error:
        sys.exit(f"ExportError: {error}")

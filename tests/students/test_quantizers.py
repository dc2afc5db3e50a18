"""Making the quantized layers; what they compute is tested with the families."""

import subprocess
import sys
from textwrap import dedent

CTRL_C = """
    import sys

    class CtrlC:
        def find_spec(self, name, *_):
            if name == "torch._dynamo":
                raise KeyboardInterrupt

    from kdnas.students.quantizers import make_relu

    sys.meta_path.insert(0, CtrlC())
    make_relu(8)
"""


def test_ctrl_c_is_not_lost_while_brevitas_is_imported() -> None:
    # brevitas itself would take it for a torch without this part, and go on.
    ended = subprocess.run(
        [sys.executable, "-c", dedent(CTRL_C)], stderr=subprocess.PIPE, text=True, check=False, timeout=300
    )
    assert ended.returncode != 0
    assert ended.stderr.strip().endswith("KeyboardInterrupt")

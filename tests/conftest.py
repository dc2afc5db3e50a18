import os
import sys
from pathlib import Path

# `echo` is imported by name, also by the processes that tests start.
sys.path.insert(0, str(Path(__file__).parent))

# Networks here are tiny: threads would only wait for each other, on a busy machine for most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

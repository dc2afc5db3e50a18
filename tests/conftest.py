import sys
from pathlib import Path

# `echo` is imported by name, also by the processes that tests start.
sys.path.insert(0, str(Path(__file__).parent))

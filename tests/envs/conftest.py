import sys
from pathlib import Path

# `toys` is imported by name, as a study's `factory = "toys:make"` does it.
sys.path.insert(0, str(Path(__file__).parent))

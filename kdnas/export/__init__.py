"""Export: a team as a deployable artifact, checked against the students that it holds."""

from kdnas.export.c import CExporter
from kdnas.export.exporter import Artifact, Exporter
from kdnas.export.onnx import OnnxExporter

__all__ = ["Artifact", "CExporter", "Exporter", "OnnxExporter"]

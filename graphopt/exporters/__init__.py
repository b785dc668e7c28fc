"""Forms of a program outside graphopt: ``torch.export.ExportedProgram``, ``.pt2`` files, ONNX files."""

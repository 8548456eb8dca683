"""Media files to waveforms at 16 kHz and to video frames."""

"""From media files to waveforms at 16 kHz."""

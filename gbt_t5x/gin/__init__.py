"""Gin files, found by this package: `gbt_t5x/gin/NAME.gin`. They are in gin/."""

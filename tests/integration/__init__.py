"""Tests against real servers on loopback.

A folder that is a package has servers that its tests share; they end with the last of these.
"""

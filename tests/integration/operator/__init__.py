"""Tests of the operator, beside a control plane; they share their servers."""

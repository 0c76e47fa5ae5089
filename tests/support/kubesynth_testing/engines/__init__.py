"""The command lines of the engines that classes of model servers start."""

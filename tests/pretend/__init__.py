"""A device that pretends to be an accelerator, so that faults of devices are found on a machine without one.

pretend.cpp   the device: the CPU's numbers and memory, CUDA's manners; its graphs refuse what CUDA graphs refuse
device.py     builds it with g++ and registers it as "pretend" in this process
manners.py    a program that prints whether the device behaves as CUDA does
rules.py      a program that prints which of credo's promises about devices hold
graphs.py     the promises about CUDA graphs among them
walk.py       a program that prints what credo does on the device, program by program
"""

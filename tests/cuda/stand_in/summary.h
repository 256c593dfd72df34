// What other parts add to the summary at exit.
#pragma once

#include <stdio.h>

#include "stand_in.h"

// One JSON object a graph: its nodes by kind, how often it was launched, and its kernels by name.
void summarise_graphs(FILE *out);
// One JSON object a kernel that was used.
void summarise_kernels(FILE *out);

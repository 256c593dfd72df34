// What the runtime and the driver both say of the device.
#pragma once

#include <stddef.h>

#define STANDIN_NAME "Stand-in (sm_90)"

size_t standin_device_memory(void);

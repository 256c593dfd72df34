// CUPTI: it takes every request of libtorch's profiler and sees nothing.
#include <stddef.h>
#include <stdint.h>

enum { SUCCESS = 0, NO_MORE_RECORDS = 12 };

#define ACCEPTS(name)                                                                                                                  \
  int name(void) { return SUCCESS; }

ACCEPTS(cuptiActivityDisable)
ACCEPTS(cuptiActivityEnable)
ACCEPTS(cuptiActivityEnableCudaEventDeviceTimestamps)
ACCEPTS(cuptiActivityEnableDriverApi)
ACCEPTS(cuptiActivityEnableRuntimeApi)
ACCEPTS(cuptiActivityFlushAll)
ACCEPTS(cuptiActivityPushExternalCorrelationId)
ACCEPTS(cuptiActivityRegisterCallbacks)
ACCEPTS(cuptiActivityRegisterTimestampCallback)
ACCEPTS(cuptiActivitySetAttribute)
ACCEPTS(cuptiEnableCallback)
ACCEPTS(cuptiEnableDomain)
ACCEPTS(cuptiFinalize)
ACCEPTS(cuptiUnsubscribe)

int cuptiActivityGetNextRecord(uint8_t *buffer, size_t bytes, void **record) { return NO_MORE_RECORDS; }

int cuptiActivityGetNumDroppedRecords(void *context, uint32_t stream, size_t *count) {
  *count = 0;
  return SUCCESS;
}

int cuptiActivityPopExternalCorrelationId(int kind, uint64_t *id) {
  if (id)
    *id = 0;
  return SUCCESS;
}

int cuptiGetResultString(int result, const char **text) {
  *text = "a result of the stand-in";
  return SUCCESS;
}

int cuptiGetVersion(uint32_t *version) {
  *version = 130000;
  return SUCCESS;
}

int cuptiSubscribe(void **subscriber, void *callback, void *data) {
  *subscriber = (void *)1;
  return SUCCESS;
}

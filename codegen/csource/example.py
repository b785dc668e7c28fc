"""``main.c``: a program that runs the model on files of raw numbers."""

from __future__ import annotations

from collections.abc import Sequence


def example(sizes: Sequence[str]) -> str:
    """The program; its arguments are the sizes, the files of inputs, and those of outputs."""
    read = "".join(f"  const int64_t {name} = atoll(*arguments++);\n" for name in sizes)
    before = "".join(f"{name}, " for name in sizes)
    return (
        _MAIN.replace("@USAGE@", "".join(f"{name.upper()} " for name in sizes))
        .replace("@READ@", read)
        .replace("@AND@", before)
    )


_MAIN = """\
/* Runs the model on raw arrays: example [--repeat N] @USAGE@INPUT... OUTPUT...
   With --repeat it runs N times and prints the time of the fastest run. */
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model.h"

static int fail(const char *what, const char *which)
{
  fprintf(stderr, "%s: %s\\n", what, which);
  return 1;
}

static int read_array(const char *path, void *data, size_t bytes)
{
  FILE *const file = fopen(path, "rb");
  if (file == NULL)
    return fail("cannot open", path);
  const size_t found = fread(data, 1, bytes, file);
  const int longer = fgetc(file) != EOF;
  fclose(file);
  return found == bytes && !longer ? 0 : fail("the array that it should hold has another length", path);
}

static int write_array(const char *path, const void *data, size_t bytes)
{
  FILE *const file = fopen(path, "wb");
  if (file == NULL)
    return fail("cannot open", path);
  const size_t written = fwrite(data, 1, bytes, file);
  return fclose(file) == 0 && written == bytes ? 0 : fail("cannot write", path);
}

static double seconds(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int main(int count, char **arguments)
{
  int repeat = 0;
  if (count > 2 && strcmp(arguments[1], "--repeat") == 0) {
    repeat = atoi(arguments[2]);
    arguments += 2;
    count -= 2;
  }
  if (count != 1 + MODEL_SIZES + MODEL_INPUTS + MODEL_OUTPUTS)
    return fail("usage", "example [--repeat N] @USAGE@INPUT... OUTPUT...");
  ++arguments;
@READ@
  void *inputs[MODEL_INPUTS + 1] = {0}, *outputs[MODEL_OUTPUTS + 1] = {0};
  int status = 0;
  for (int i = 0; i < MODEL_INPUTS && status == 0; ++i) {
    const size_t bytes = model_input_bytes(@AND@i);
    inputs[i] = malloc(bytes ? bytes : 1);
    status = inputs[i] == NULL ? fail("no memory for", model_input_names[i])
                               : read_array(arguments[i], inputs[i], bytes);
  }
  for (int i = 0; i < MODEL_OUTPUTS && status == 0; ++i) {
    const size_t bytes = model_output_bytes(@AND@i);
    outputs[i] = malloc(bytes ? bytes : 1);
    if (outputs[i] == NULL)
      status = fail("no memory for", model_output_names[i]);
  }
  double fastest = 1e30;
  for (int run = 0; run <= repeat && status == 0; ++run) {
    const double start = seconds();
    status = model_run(@AND@(const void *const *)inputs, outputs);
    const double time = seconds() - start;
    fastest = time < fastest ? time : fastest;
    if (status != MODEL_OK)
      fprintf(stderr, "the model failed with status %d\\n", status);
  }
  if (repeat > 0 && status == 0)
    printf("%.6f ms\\n", fastest * 1e3);
  for (int i = 0; i < MODEL_OUTPUTS && status == 0; ++i)
    status = write_array(arguments[MODEL_INPUTS + i], outputs[i], model_output_bytes(@AND@i));
  for (int i = 0; i < MODEL_INPUTS; ++i)
    free(inputs[i]);
  for (int i = 0; i < MODEL_OUTPUTS; ++i)
    free(outputs[i]);
  return status;
}
"""

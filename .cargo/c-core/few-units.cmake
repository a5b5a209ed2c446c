# Compiles gRPC C-core in few units: its hundreds of C++ files parse the same headers again and again. It takes
# a third of the processor's time, and makes a smaller binary. CMake reads this right after gRPC's `project()`.

# Its messages have names of source files: they do not depend on where it is compiled.
add_compile_options("-ffile-prefix-map=${CMAKE_CURRENT_SOURCE_DIR}=/grpc")

# A CMake that knows no deferred calls compiles file by file, as it would without this file.
if(CMAKE_VERSION VERSION_LESS 3.19)
  return()
endif()

# Sources that define what another source of the same target defines too: they are compiled alone. Generated C
# (`*.upb.c`) repeats its static names. A test compares the list with the pinned C-core.
set(FEW_UNITS_ALONE
  "\\.upb\\.c$"
  "/bin_encoder\\.cc$"
  "/ev_poll_posix\\.cc$"
  "/ev_posix\\.cc$"
  "/grpc_alts_credentials_server_options\\.cc$"
  "/local_transport_security\\.cc$")
# The same for targets of Abseil: sources of one target clash.
set(FEW_UNITS_ABSEIL_ALONE time time_zone)

function(few_units_of target batch)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${batch})
endfunction()

function(few_units_below directory)
  get_property(targets DIRECTORY ${directory} PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target ${targets})
    get_target_property(type ${target} TYPE)
    if(type STREQUAL STATIC_LIBRARY AND NOT target IN_LIST FEW_UNITS_ABSEIL_ALONE)
      few_units_of(${target} 8)
    endif()
  endforeach()
  get_property(below DIRECTORY ${directory} PROPERTY SUBDIRECTORIES)
  foreach(subdirectory ${below})
    few_units_below(${subdirectory})
  endforeach()
endfunction()

function(few_units)
  few_units_of(grpc_unsecure 16)
  few_units_of(gpr 8)
  foreach(target grpc_unsecure gpr)
    get_target_property(sources ${target} SOURCES)
    foreach(pattern ${FEW_UNITS_ALONE})
      set(alone ${sources})
      list(FILTER alone INCLUDE REGEX "${pattern}")
      set_source_files_properties(${alone} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    endforeach()
  endforeach()
  few_units_below(third_party/abseil-cpp)
endfunction()
cmake_language(DEFER CALL few_units)

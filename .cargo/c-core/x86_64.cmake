set(processor x86_64)
set(triplet x86_64-linux-gnu)
include("${CMAKE_CURRENT_LIST_DIR}/toolchain.cmake")

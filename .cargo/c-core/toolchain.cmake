# Included by the toolchain file of each processor, which sets `processor` and `triplet` (Debian's name of the
# target). In a cross build, the compilers are named here: the cmake crate leaves them to a toolchain file.
set(CMAKE_PROJECT_grpc_INCLUDE "${CMAKE_CURRENT_LIST_DIR}/few-units.cmake" CACHE FILEPATH "")
if(NOT CMAKE_HOST_SYSTEM_PROCESSOR MATCHES "^${processor}")
  set(CMAKE_SYSTEM_NAME Linux)
  set(CMAKE_SYSTEM_PROCESSOR ${processor})
  set(CMAKE_C_COMPILER ${triplet}-gcc)
  set(CMAKE_CXX_COMPILER ${triplet}-g++)
endif()

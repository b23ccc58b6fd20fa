# find_package(fastconv CONFIG): the target fastconv::fastconv.
include("${CMAKE_CURRENT_LIST_DIR}/fastconvTargets.cmake")

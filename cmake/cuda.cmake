# The CUDA backend of the network, where nvcc is found. Not in sanitizer builds: the host emulation
# (src/network/cuda_emulation.c) is what those check. Machine code for sm_80 and sm_90, and PTX that serves later devices.
# nvcc makes one object, so that the language and flags of everything else stay C's; the runtime is linked statically, so
# that the program also starts where there is no CUDA.
if(TBG_WITH_CUDA AND NOT TBG_SANITIZE)
  find_program(TBG_NVCC nvcc HINTS /usr/local/cuda/bin)
  if(TBG_NVCC)
    get_filename_component(cuda_bin ${TBG_NVCC} REALPATH)
    get_filename_component(cuda_bin ${cuda_bin} DIRECTORY)
    find_library(TBG_CUDART cudart_static HINTS ${cuda_bin}/../lib64 ${cuda_bin}/../targets/x86_64-linux/lib
      ${cuda_bin}/../targets/sbsa-linux/lib)
  endif()
  if(TBG_NVCC AND TBG_CUDART)
    set(TBG_CUDA_TARGETS "-gencode=arch=compute_80,code=sm_80;-gencode=arch=compute_90,code=[sm_90,compute_90]"
      CACHE STRING "nvcc's -gencode options")
    set(cuda_object ${PROJECT_BINARY_DIR}/cuda_device.o)
    set(cuda_launcher)
    if(CCACHE)
      set(cuda_launcher ${CCACHE})
    endif()
    file(GLOB cuda_headers CONFIGURE_DEPENDS src/network/cuda*.h src/network/edge_math.h)
    add_custom_command(OUTPUT ${cuda_object}
      COMMAND ${cuda_launcher} ${TBG_NVCC} -O3 -std=c++17 ${TBG_CUDA_TARGETS} -I${PROJECT_SOURCE_DIR}/include
        -I${PROJECT_SOURCE_DIR}/src -DTBG_HAVE_CUDA=1 -c ${PROJECT_SOURCE_DIR}/src/network/cuda_device.cu
        -o ${cuda_object}
      DEPENDS src/network/cuda_device.cu include/tbg/status.h ${cuda_headers}
      COMMENT "Building CUDA object cuda_device.o" VERBATIM)
    set_source_files_properties(${cuda_object} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
    target_sources(tbg PRIVATE ${cuda_object})
    # Only these look at it, so that compiler caches serve builds with and without CUDA.
    set_property(SOURCE src/network/cuda.c app/cmd_info.c APPEND PROPERTY COMPILE_DEFINITIONS TBG_HAVE_CUDA=1)
    find_package(Threads REQUIRED)
    target_link_libraries(tbg PUBLIC ${TBG_CUDART} stdc++ Threads::Threads ${CMAKE_DL_LIBS} rt)
    message(STATUS "CUDA network: ${TBG_NVCC}")
  endif()
endif()

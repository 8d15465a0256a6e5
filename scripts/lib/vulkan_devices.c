/* Exits 0 if Vulkan has a device, else 1: asks the loader, with no header or library needed to build.
 * The declarations follow the Vulkan 1.0 specification, VkInstanceCreateInfo and vkEnumeratePhysicalDevices. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

struct instance_info {
    int32_t type;
    const void *next;
    uint32_t flags;
    const void *application;
    uint32_t layer_count;
    const char *const *layers;
    uint32_t extension_count;
    const char *const *extensions;
};

typedef int32_t (*create_instance)(const struct instance_info *, const void *, void **);
typedef int32_t (*enumerate_devices)(void *, uint32_t *, void **);

int main(void) {
    void *loader = dlopen("libvulkan.so.1", RTLD_NOW);
    if (!loader) {
        puts("no Vulkan loader (libvulkan.so.1)");
        return 1;
    }
    create_instance create = (create_instance)dlsym(loader, "vkCreateInstance");
    enumerate_devices enumerate = (enumerate_devices)dlsym(loader, "vkEnumeratePhysicalDevices");
    struct instance_info info = {.type = 1}; /* VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO */
    void *instance = NULL;
    if (!create || !enumerate || create(&info, NULL, &instance) != 0) {
        puts("a Vulkan loader, but no driver");
        return 1;
    }
    uint32_t count = 0;
    if (enumerate(instance, &count, NULL) != 0 || count == 0) {
        puts("a Vulkan loader, but no device");
        return 1;
    }
    printf("%u Vulkan device%s\n", count, count == 1 ? "" : "s");
    return 0;
}

// What Tauri's Kotlin and ours use of androidx and Jackson, as types without code: neither is in a registry that the
// checks can ask. `.ci/mobile` makes a file of each package.

package android.annotation

annotation class SuppressLint(vararg val value: String)

package app.lingualinked

// wry's, which Tauri's activity extends.
abstract class WryActivity : androidx.appcompat.app.AppCompatActivity() {
    open val handleBackNavigation: Boolean = true
}

package androidx.activity

fun androidx.appcompat.app.AppCompatActivity.enableEdgeToEdge(): Unit = TODO()

abstract class OnBackPressedCallback(var isEnabled: Boolean) {
    abstract fun handleOnBackPressed()
}

class OnBackPressedDispatcher {
    fun addCallback(owner: Any, callback: OnBackPressedCallback): Unit = TODO()
}

package androidx.activity.result

class ActivityResult(val resultCode: Int, val data: android.content.Intent?)

abstract class ActivityResultLauncher<I> {
    fun launch(input: I): Unit = TODO()
}

class IntentSenderRequest

package androidx.activity.result.contract

abstract class ActivityResultContract<I, O>

class ActivityResultContracts {
    class StartActivityForResult :
        ActivityResultContract<android.content.Intent, androidx.activity.result.ActivityResult>()

    class StartIntentSenderForResult :
        ActivityResultContract<androidx.activity.result.IntentSenderRequest, androidx.activity.result.ActivityResult>()

    class RequestMultiplePermissions : ActivityResultContract<Array<String>, Map<String, Boolean>>()
}

package androidx.appcompat.app

open class AppCompatActivity : android.app.Activity() {
    val onBackPressedDispatcher: androidx.activity.OnBackPressedDispatcher = TODO()

    fun <I, O> registerForActivityResult(
        contract: androidx.activity.result.contract.ActivityResultContract<I, O>,
        callback: (O) -> Unit,
    ): androidx.activity.result.ActivityResultLauncher<I> = TODO()
}

package androidx.core.app

object ActivityCompat {
    fun checkSelfPermission(context: android.content.Context, permission: String): Int = TODO()

    fun shouldShowRequestPermissionRationale(activity: android.app.Activity, permission: String): Boolean = TODO()
}

package androidx.core.content

inline fun android.content.SharedPreferences.edit(
    commit: Boolean = false,
    action: android.content.SharedPreferences.Editor.() -> Unit,
): Unit = TODO()

object ContextCompat {
    const val RECEIVER_EXPORTED = 2
    const val RECEIVER_NOT_EXPORTED = 4

    fun registerReceiver(
        context: android.content.Context,
        receiver: android.content.BroadcastReceiver?,
        filter: android.content.IntentFilter,
        flags: Int,
    ): android.content.Intent? = TODO()

    fun startForegroundService(context: android.content.Context, intent: android.content.Intent): Unit = TODO()
}

package androidx.core.graphics

class Insets(val left: Int, val top: Int, val right: Int, val bottom: Int)

package androidx.core.view

fun interface OnApplyWindowInsetsListener {
    fun onApplyWindowInsets(view: android.view.View, insets: WindowInsetsCompat): WindowInsetsCompat
}

object ViewCompat {
    fun setOnApplyWindowInsetsListener(view: android.view.View, listener: OnApplyWindowInsetsListener?): Unit = TODO()

    fun requestApplyInsets(view: android.view.View): Unit = TODO()
}

open class WindowInsetsCompat {
    fun getInsets(typeMask: Int): androidx.core.graphics.Insets = TODO()

    object Type {
        fun systemBars(): Int = TODO()

        fun displayCutout(): Int = TODO()

        fun ime(): Int = TODO()
    }

    companion object {
        val CONSUMED: WindowInsetsCompat = TODO()
    }
}

package com.fasterxml.jackson.annotation

annotation class JsonAutoDetect {
    enum class Visibility { ANY }
}

enum class PropertyAccessor { FIELD }

package com.fasterxml.jackson.core

abstract class JsonParser

package com.fasterxml.jackson.core.type

abstract class TypeReference<T>

package com.fasterxml.jackson.databind

abstract class DeserializationContext {
    fun <T> readValue(parser: com.fasterxml.jackson.core.JsonParser?, type: Class<T>): T = TODO()
}

enum class DeserializationFeature { FAIL_ON_UNKNOWN_PROPERTIES, FAIL_ON_NULL_FOR_PRIMITIVES }

abstract class JsonDeserializer<T> {
    abstract fun deserialize(parser: com.fasterxml.jackson.core.JsonParser?, context: DeserializationContext): T
}

abstract class JsonNode

abstract class Module

class ObjectMapper {
    fun configure(feature: DeserializationFeature, state: Boolean): ObjectMapper = TODO()

    fun disable(feature: DeserializationFeature): ObjectMapper = TODO()

    fun enable(feature: DeserializationFeature): ObjectMapper = TODO()

    fun registerModule(module: Module): ObjectMapper = TODO()

    fun setVisibility(
        accessor: com.fasterxml.jackson.annotation.PropertyAccessor,
        visibility: com.fasterxml.jackson.annotation.JsonAutoDetect.Visibility,
    ): ObjectMapper = TODO()

    fun <T> readValue(content: String, type: Class<T>): T = TODO()

    fun <T> readValue(content: String, type: com.fasterxml.jackson.core.type.TypeReference<T>): T = TODO()

    fun writeValueAsString(value: Any?): String = TODO()
}

package com.fasterxml.jackson.databind.module

open class SimpleModule : com.fasterxml.jackson.databind.Module() {
    fun <T> addDeserializer(
        type: Class<T>,
        deserializer: com.fasterxml.jackson.databind.JsonDeserializer<out T>,
    ): SimpleModule = TODO()
}

package com.fasterxml.jackson.datatype.jsonorg

class JsonOrgModule : com.fasterxml.jackson.databind.module.SimpleModule()

package app.tauri

object BuildConfig {
    const val DEBUG = false
}

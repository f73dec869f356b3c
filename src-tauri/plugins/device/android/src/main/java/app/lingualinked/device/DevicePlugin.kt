package app.lingualinked.device

import android.Manifest
import android.app.Activity
import android.content.Intent
import android.content.pm.PackageManager
import android.net.Uri
import android.os.Build
import android.os.Handler
import android.os.Looper
import android.provider.OpenableColumns
import android.provider.Settings
import android.webkit.MimeTypeMap
import android.webkit.WebView
import androidx.activity.result.ActivityResult
import androidx.appcompat.app.AppCompatActivity
import androidx.core.view.ViewCompat
import androidx.core.view.WindowInsetsCompat
import app.tauri.annotation.ActivityCallback
import app.tauri.annotation.Command
import app.tauri.annotation.InvokeArg
import app.tauri.annotation.Permission
import app.tauri.annotation.TauriPlugin
import app.tauri.plugin.Channel
import app.tauri.plugin.Invoke
import app.tauri.plugin.JSObject
import app.tauri.plugin.Plugin
import java.io.IOException
import kotlin.concurrent.thread

@InvokeArg
internal class WatchArgs {
    lateinit var reports: Channel
    lateinit var insets: Channel
}

@InvokeArg
internal class HoldArgs {
    var multicast = false
    var lowLatencyWifi = false
    var processor = false
    var screen = false
}

@InvokeArg
internal class ServeArgs {
    lateinit var kind: String
    var nPhones = 0
}

@InvokeArg
internal class OpenArgs {
    lateinit var address: String
}

@InvokeArg
internal class SaveArgs {
    lateinit var name: String
    lateinit var text: String
}

/** What systems call a file of no known type: its name is left as it is. */
private const val UNKNOWN_TYPE = "application/octet-stream"

/** How often a report is sent when nothing happens; Rust's `PERIOD`. */
private const val PERIOD_MS = 10_000L

/**
 * What only Kotlin can ask of the phone. It tells and does, and concludes nothing: that is Rust's part.
 *
 * All commands, and all callbacks below, come on the main thread.
 */
@TauriPlugin(
    permissions = [
        // The constant is Android 17's; the name is the same for every SDK.
        Permission(strings = ["android.permission.ACCESS_LOCAL_NETWORK"], alias = "localNetwork"),
        Permission(strings = [Manifest.permission.CAMERA], alias = "camera"),
        Permission(strings = ["android.permission.POST_NOTIFICATIONS"], alias = "notifications"),
    ]
)
class DevicePlugin(private val activity: Activity) : Plugin(activity) {
    private val main = Handler(Looper.getMainLooper())
    private val holds = Holds(activity)
    private val gauge = Gauge(activity, holds) { report() }
    private var watch: WatchArgs? = null
    private var insets: JSObject? = null

    override fun load(webView: WebView) {
        ViewCompat.setOnApplyWindowInsetsListener(webView) { _, shown ->
            insets = inCssPixels(shown)
            insets?.let { watch?.insets?.send(it) }
            // The page keeps clear by itself: the web view must not do so a second time.
            WindowInsetsCompat.CONSUMED
        }
        webView.post { ViewCompat.requestApplyInsets(webView) }
    }

    /** Tells how the phone is now. */
    @Command
    fun read(invoke: Invoke) {
        val first = JSObject()
        first.put("sdk", Build.VERSION.SDK_INT)
        first.put(
            "hasCamera", activity.packageManager.hasSystemFeature(PackageManager.FEATURE_CAMERA_ANY)
        )
        first.put("report", gauge.report())
        invoke.resolve(first)
    }

    /** Tells from now on how the phone is, and what of the page is hidden. */
    @Command
    fun watch(invoke: Invoke) {
        val args = invoke.parseArgs(WatchArgs::class.java)
        watch = args
        insets?.let { args.insets.send(it) }
        gauge.start()
        main.removeCallbacks(tick)
        main.postDelayed(tick, PERIOD_MS)
        invoke.resolve()
    }

    /** Holds these, and lets go of the rest. */
    @Command
    fun hold(invoke: Invoke) {
        holds.hold(invoke.parseArgs(HoldArgs::class.java))
        report()
        invoke.resolve()
    }

    /** Works behind other apps, and says so. */
    @Command
    fun serve(invoke: Invoke) {
        try {
            DeviceService.say(activity, words(invoke.parseArgs(ServeArgs::class.java)))
            invoke.resolve()
        } catch (refused: IllegalStateException) {
            // From Android 12 on an app that is not in front may not start one.
            invoke.reject("the system does not let the app work in the background now", refused)
        }
    }

    /** Rust's `Notice`, in the system's language. */
    private fun words(notice: ServeArgs): String = when (notice.kind) {
        "computes" -> activity.getString(R.string.device_computes)
        "answers" -> activity.getString(R.string.device_answers)
        "fetches" -> activity.getString(R.string.device_fetches)
        else -> activity.resources?.getQuantityString(
            R.plurals.device_in_group, notice.nPhones, notice.nPhones
        ).orEmpty()
    }

    /** Works in front only. */
    @Command
    fun rest(invoke: Invoke) {
        DeviceService.end()
        invoke.resolve()
    }

    /** Opens the system's page of this app. */
    @Command
    fun openSettings(invoke: Invoke) {
        val page = Intent(Settings.ACTION_APPLICATION_DETAILS_SETTINGS)
        page.data = Uri.fromParts("package", activity.packageName, null)
        activity.startActivity(page)
        invoke.resolve()
    }

    /** Lets a person pick a file, opens it, and keeps the permission to open it again; nothing, if they picked none. */
    @Command
    fun pickFile(invoke: Invoke) {
        val picker = Intent(Intent.ACTION_OPEN_DOCUMENT)
        picker.addCategory(Intent.CATEGORY_OPENABLE)
        // Models have no type that systems know.
        picker.type = "*/*"
        startActivityForResult(invoke, picker, "filePicked")
    }

    @ActivityCallback
    fun filePicked(invoke: Invoke, result: ActivityResult) {
        val address = result.data?.data
        if (result.resultCode != Activity.RESULT_OK || address == null) {
            invoke.resolve(JSObject())
            return
        }
        val lasts = try {
            activity.contentResolver.takePersistableUriPermission(
                address, Intent.FLAG_GRANT_READ_URI_PERMISSION
            )
            true
        } catch (refused: SecurityException) {
            false
        }
        open(invoke, address, lasts)
    }

    /** Opens a file that was picked before. */
    @Command
    fun openFile(invoke: Invoke) {
        open(invoke, Uri.parse(invoke.parseArgs(OpenArgs::class.java).address), true)
    }

    /** Hands a descriptor over, which Rust closes. What provides the file may have to fetch it: not on the main thread. */
    private fun open(invoke: Invoke, address: Uri, lasts: Boolean) {
        thread {
            try {
                val name = nameOf(address)
                val descriptor = activity.contentResolver.openFileDescriptor(address, "r")
                val opened = JSObject()
                opened.put("descriptor", descriptor?.detachFd() ?: -1)
                opened.put("name", name)
                opened.put("address", address.toString())
                opened.put("lasts", lasts)
                invoke.resolve(opened)
            } catch (gone: Exception) {
                invoke.reject("the file cannot be opened", gone)
            }
        }
    }

    /** Lets a person choose where to write a file, and writes it; nothing, if they chose no place. */
    @Command
    fun saveFile(invoke: Invoke) {
        val name = invoke.parseArgs(SaveArgs::class.java).name
        val maker = Intent(Intent.ACTION_CREATE_DOCUMENT)
        maker.addCategory(Intent.CATEGORY_OPENABLE)
        val ending = name.substringAfterLast('.', "")
        maker.type = MimeTypeMap.getSingleton().getMimeTypeFromExtension(ending) ?: UNKNOWN_TYPE
        maker.putExtra(Intent.EXTRA_TITLE, name)
        startActivityForResult(invoke, maker, "placeChosen")
    }

    /** What provides the place may have to send the file away: not on the main thread. */
    @ActivityCallback
    fun placeChosen(invoke: Invoke, result: ActivityResult) {
        val address = result.data?.data
        if (result.resultCode != Activity.RESULT_OK || address == null) {
            invoke.resolve(JSObject())
            return
        }
        val text = invoke.parseArgs(SaveArgs::class.java).text
        thread {
            try {
                write(address, text)
                val saved = JSObject()
                saved.put("name", nameOf(address))
                invoke.resolve(saved)
            } catch (failed: Exception) {
                invoke.reject("the file cannot be written", failed)
            }
        }
    }

    /** Of a file that was there already nothing is left. */
    private fun write(address: Uri, text: String) {
        val file = activity.contentResolver.openOutputStream(address, "wt")
            ?: throw IOException("there is no such place any more")
        file.use { it.write(text.toByteArray()) }
    }

    private fun nameOf(address: Uri): String {
        val columns = arrayOf(OpenableColumns.DISPLAY_NAME)
        val found = activity.contentResolver.query(address, columns, null, null, null) ?: return ""
        try {
            return if (found.moveToFirst()) found.getString(0) ?: "" else ""
        } finally {
            found.close()
        }
    }

    override fun onDestroy(activity: AppCompatActivity) {
        main.removeCallbacks(tick)
        gauge.stop()
        holds.hold(HoldArgs())
        DeviceService.end()
    }

    private val tick = object : Runnable {
        override fun run() {
            report()
            main.postDelayed(this, PERIOD_MS)
        }
    }

    private fun report() {
        watch?.reports?.send(gauge.report())
    }

    private fun inCssPixels(shown: WindowInsetsCompat): JSObject {
        val bars = shown.getInsets(
            WindowInsetsCompat.Type.systemBars() or WindowInsetsCompat.Type.displayCutout()
        )
        val keyboard = shown.getInsets(WindowInsetsCompat.Type.ime()).bottom - bars.bottom
        val density = (activity.resources?.displayMetrics?.density ?: 1f).toDouble()

        val css = JSObject()
        css.put("top", bars.top / density)
        css.put("bottom", bars.bottom / density)
        css.put("left", bars.left / density)
        css.put("right", bars.right / density)
        css.put("keyboard", keyboard.coerceAtLeast(0) / density)
        return css
    }
}

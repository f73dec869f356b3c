package app.lingualinked.device

import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.PendingIntent
import android.app.Service
import android.content.Context
import android.content.Intent
import android.content.pm.ServiceInfo
import android.os.Build
import android.os.IBinder
import androidx.core.content.ContextCompat

private const val CHANNEL = "device"
private const val NOTIFICATION = 1

/**
 * Keeps the app alive while it works behind other apps. It does nothing itself.
 *
 * Its type is `connectedDevice`, which may run for as long as it likes; `dataSync` ends after 6 hours a day.
 */
class DeviceService : Service() {
    override fun onBind(intent: Intent?): IBinder? = null

    override fun onStartCommand(intent: Intent?, flags: Int, startId: Int): Int {
        isStarting = false
        running = this
        val notification = notification(words ?: "")
        // Android ends an app whose service was asked for and does not do this, even if it is not wanted any more.
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
            startForeground(
                NOTIFICATION, notification, ServiceInfo.FOREGROUND_SERVICE_TYPE_CONNECTED_DEVICE
            )
        } else {
            startForeground(NOTIFICATION, notification)
        }
        if (words == null) end()
        // Without the app there is nothing to do.
        return START_NOT_STICKY
    }

    /** The app was swiped away. A window opened again over a process that lives on would stay blank. */
    override fun onTaskRemoved(rootIntent: Intent?) {
        end()
        super.onTaskRemoved(rootIntent)
    }

    override fun onDestroy() {
        if (running === this) running = null
        super.onDestroy()
    }

    private fun show(words: String) {
        getSystemService(NotificationManager::class.java).notify(NOTIFICATION, notification(words))
    }

    private fun notification(words: String): Notification {
        val channel = NotificationChannel(
            CHANNEL, getString(R.string.device_channel), NotificationManager.IMPORTANCE_LOW
        )
        getSystemService(NotificationManager::class.java).createNotificationChannel(channel)
        val open = packageManager.getLaunchIntentForPackage(packageName)?.let {
            PendingIntent.getActivity(this, 0, it, PendingIntent.FLAG_IMMUTABLE)
        }

        return Notification.Builder(this, CHANNEL)
            .setContentTitle(applicationInfo.loadLabel(packageManager))
            .setContentText(words)
            .setSmallIcon(R.drawable.device_mark)
            .setContentIntent(open)
            .setOngoing(true)
            .build()
    }

    /** All of this happens on the main thread. */
    companion object {
        /** What it is to say; null if it is to end. */
        private var words: String? = null
        private var running: DeviceService? = null
        private var isStarting = false

        /** Starts it, or changes what it says: for that alone the app need not be in front. */
        fun say(context: Context, words: String) {
            this.words = words
            val service = running
            if (service != null) {
                service.show(words)
            } else if (!isStarting) {
                ContextCompat.startForegroundService(
                    context, Intent(context, DeviceService::class.java)
                )
                isStarting = true
            }
        }

        /** Ends it, as soon as it has been started. */
        fun end() {
            words = null
            running?.stopSelf()
            running = null
        }
    }
}
